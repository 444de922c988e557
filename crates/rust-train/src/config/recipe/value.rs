//! A value of a recipe as the word that would stand behind its flag.

use std::any::TypeId;

use clap::Arg;
use toml::de::DeValue;

/// The word that stands for `value` behind `flag`; `None` where the flag is better left out.
pub(super) fn word(flag: &Arg, value: &DeValue<'_>) -> Result<Option<String>, String> {
    let kind = flag.get_value_parser().type_id();
    let is = |types: &[TypeId]| types.iter().any(|one| kind == *one);
    let is_whole = is(&[TypeId::of::<usize>(), TypeId::of::<u64>(), TypeId::of::<u32>(), TypeId::of::<u16>()]);
    let is_number = is(&[TypeId::of::<f64>()]);
    let is_switch = is(&[TypeId::of::<bool>()]);
    let is_list = flag.get_value_delimiter().is_some();
    let is_texts = is_list && is(&[TypeId::of::<String>()]);
    let wanted = match (is_whole, is_number, is_switch) {
        _ if is_texts => "a list of strings",
        _ if is_list => "a list of whole numbers",
        (true, ..) => "a whole number",
        (_, true, _) => "a number",
        (.., true) => "true or false",
        _ => "a string",
    };
    let refused = || format!("must be {wanted}, not {}", described(value));
    let whole = |value: &DeValue<'_>| {
        let number = value.as_integer().ok_or_else(refused)?;
        let number = i128::from_str_radix(number.as_str(), number.radix()).map_err(|_| refused())?;
        Ok(number.to_string())
    };
    Ok(Some(match value {
        DeValue::Array(array) if is_list => {
            let word = |value: &DeValue<'_>| match value.as_str() {
                Some(text) if is_texts => Ok(text.to_owned()),
                None if is_texts => Err(refused()),
                _ => whole(value),
            };
            let words: Result<Vec<_>, String> = array.iter().map(|value| word(value.get_ref())).collect();
            let words = words?;
            if words.is_empty() {
                return Ok(None);
            }
            words.join(",")
        }
        DeValue::Integer(_) if !is_switch => whole(value)?,
        DeValue::Float(number) if is_number => number.as_str().to_owned(),
        DeValue::Boolean(true) if is_switch => "true".to_owned(),
        // False excludes nothing, as a flag on the command line would, even of the value false.
        DeValue::Boolean(false)
            if is_switch && flag.get_default_values().first().is_some_and(|value| value == "false") =>
        {
            return Ok(None);
        }
        DeValue::Boolean(false) if is_switch => "false".to_owned(),
        DeValue::String(text) if !(is_whole || is_number || is_switch || is_list) => text.to_string(),
        _ => return Err(refused()),
    }))
}

fn described(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the string \"{text}\""),
        DeValue::Integer(number) => format!("the number {}", number.as_str()),
        DeValue::Float(number) => format!("the number {}", number.as_str()),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table; recipes have none".to_owned(),
    }
}
