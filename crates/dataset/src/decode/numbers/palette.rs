//! Indices of a palette to the colours that they stand for.

/// A TIFF's table of colours, 16 bits each, as bytes of red, green and blue for each of `indices`.
pub(in crate::decode) fn colours(indices: &[u8], table: &[u16]) -> Result<Vec<u8>, String> {
    let entries = table.len() / 3;
    let colour = |&index: &u8| {
        let index = usize::from(index);
        let of = |colour: usize| (table[colour * entries + index] >> 8) as u8;
        if index < entries { Ok([of(0), of(1), of(2)]) } else { Err(format!("its palette has no colour {index}")) }
    };
    Ok(indices.iter().map(colour).collect::<Result<Vec<_>, _>>()?.concat())
}
