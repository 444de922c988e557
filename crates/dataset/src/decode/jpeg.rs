#![expect(unsafe_code, reason = "libjpeg-turbo is called through its C interface, TurboJPEG; see each use")]
//! JPEG through libjpeg-turbo: only the part of an image that is asked for, at the scale that is asked for.
//!
//! Rows above the region are read but not transformed, rows below not even read, columns beside it are read but not
//! transformed. What comes out is equal, bit for bit, to the same part of the whole image, as long as the scale is 1.

use std::ffi::{CStr, c_int};
use std::ptr::NonNull;

use turbojpeg_sys as tj;

use super::buffer::make_room;
use super::{colour, markers};
use crate::limits::{
    BYTES_PER_PIXEL, CMYK_BYTES_PER_PIXEL, DECODER, JPEG_BYTES_PER_PIXEL, MOST_PIXELS, MOST_PIXELS_OF_ALL_SCANS,
    MOST_SCANS, READ_AT_ONCE,
};
use crate::resize::{Pixels, Resample, Window};
use crate::size::Size;

/// A file can hold no more: each block of 64 pixels takes a bit at least, unless it is coded arithmetically. So a small
/// file cannot make us allocate much.
const MOST_PIXELS_PER_BYTE: u64 = 2048;
/// What a libjpeg error says before its reason.
const HEADER: &str = "tj3DecompressHeader(): ";

/// Whether the bytes begin as a JPEG file does.
pub(super) fn is_jpeg(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xff, 0xd8])
}

/// The pixels that a JPEG file declares, of which these bytes are the start. `None` if it is none.
pub(crate) fn declared(start: &[u8]) -> Option<Result<u64, String>> {
    let size = || {
        let not_there = || format!("its first {} bytes do not say how many pixels it has", start.len());
        let (width, height) = markers::size(start).ok_or_else(not_there)?;
        Ok(Size { width, height }.check()?.count())
    };
    is_jpeg(start).then(size)
}

/// What an image is, before it is decoded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header<'a> {
    bytes: &'a [u8],
    pub size: Size,
    pub exif: Option<&'a [u8]>,
    is_cmyk: bool,
    /// Whether all pixels are gray.
    pub is_gray: bool,
    /// Width of the units in which columns can be left out, in pixels; `None` where none can be.
    unit_width: Option<u32>,
}

/// A part of an image at a scale of 1/`denominator`, in pixels of the scaled image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Region {
    denominator: u32,
    left: u32,
    top: u32,
    size: Size,
    /// Of the whole scaled image.
    whole: Size,
}

impl Region {
    /// The whole image, as it is.
    pub fn whole(header: &Header<'_>) -> Self {
        Self { denominator: 1, left: 0, top: 0, size: header.size, whole: header.size }
    }

    /// The whole image, as small as can be.
    pub fn coarse(header: &Header<'_>) -> Self {
        let Size { width, height } = header.size;
        let size = Size { width: width.div_ceil(8), height: height.div_ceil(8) };
        Self { denominator: 8, left: 0, top: 0, size, whole: size }
    }

    /// What must be decoded so that `window` can be scaled to `side`×`side` pixels, with at least `detail` decoded
    /// pixels for each.
    pub fn around(header: &Header<'_>, window: &Window, side: usize, detail: f64, resample: Resample) -> Self {
        let least = side as f64 * detail;
        // Of libjpeg's scales these are the ones with SIMD.
        let fits = |denominator: &u32| window.width.min(window.height) / f64::from(*denominator) >= least;
        let denominator = [8, 4, 2].into_iter().find(fits).unwrap_or(1);
        let scaled =
            Size { width: header.size.width.div_ceil(denominator), height: header.size.height.div_ceil(denominator) };
        let scale = f64::from(denominator);
        // Two pixels more than the filter sees: at the region's edge libjpeg's own chroma filter sees no neighbours.
        let span = |start: f64, length: f64, limit: u32| {
            let margin = resample.support(length / (scale * side as f64)) + 2.0;
            let from = (start / scale - margin).floor().max(0.0) as u32;
            let to = ((start + length) / scale + margin).ceil().min(f64::from(limit)) as u32;
            (from.min(limit - 1), to.max(1))
        };
        let (left, right) = match header.unit_width {
            None => (0, scaled.width),
            Some(unit) => {
                let (left, right) = span(window.left, window.width, scaled.width);
                let unit = unit.div_ceil(denominator);
                (left / unit * unit, right)
            }
        };
        let (top, bottom) = match header.unit_width {
            None => (0, scaled.height),
            Some(_) => span(window.top, window.height, scaled.height),
        };
        Self { denominator, left, top, size: Size { width: right - left, height: bottom - top }, whole: scaled }
    }

    /// The region's pixels, as part of the image as it is decoded.
    pub fn pixels<'a>(&self, bytes: &'a [u8]) -> Pixels<'a> {
        let Self { size, whole, .. } = *self;
        Pixels { bytes, size, left: self.left as usize, top: self.top as usize, whole, turned: false }
    }

    /// Where `window` of the whole image lies in the image as it is decoded.
    pub fn window(&self, window: &Window) -> Window {
        let scale = f64::from(self.denominator);
        Window {
            left: window.left / scale,
            top: window.top / scale,
            width: window.width / scale,
            height: window.height / scale,
        }
    }
}

/// A decompressor of libjpeg-turbo, with the memory it keeps.
#[derive(Debug)]
pub(super) struct Decompressor {
    handle: NonNull<std::ffi::c_void>,
    cmyk: Vec<u8>,
}

// SAFETY: a TurboJPEG instance holds no reference to the thread that made it; it may be used by one thread at a time,
// and every use takes `&mut self`.
unsafe impl Send for Decompressor {}

impl Decompressor {
    /// A new one.
    pub fn new() -> Self {
        // SAFETY: no argument but a constant.
        let handle = unsafe { tj::tj3Init(tj::TJINIT_TJINIT_DECOMPRESS as c_int) };
        let mut new = Self { handle: NonNull::new(handle).expect("memory for a decompressor"), cmyk: Vec::new() };
        new.set(tj::TJPARAM_TJPARAM_MAXPIXELS, MOST_PIXELS as c_int);
        new.set(tj::TJPARAM_TJPARAM_SAVEMARKERS, 0); // we have no use for ICC profiles
        new
    }

    /// Reads what comes before the pixels.
    pub fn read_header<'a>(&mut self, bytes: &'a [u8]) -> Result<Header<'a>, String> {
        let header = self.try_read_header(bytes);
        self.start_afresh_after(header)
    }

    fn try_read_header<'a>(&mut self, bytes: &'a [u8]) -> Result<Header<'a>, String> {
        let markers = markers::read(bytes);
        // SAFETY: the pointer and the length are those of a slice that outlives the call.
        let status = unsafe { tj::tj3DecompressHeader(self.handle.as_ptr(), bytes.as_ptr(), bytes.len() as _) };
        self.check(status)?;
        let get = |parameter| u32::try_from(self.get(parameter)).unwrap_or(0);
        let size =
            Size { width: get(tj::TJPARAM_TJPARAM_JPEGWIDTH), height: get(tj::TJPARAM_TJPARAM_JPEGHEIGHT) }.check()?;
        if size.count() > MOST_PIXELS_PER_BYTE * bytes.len() as u64 {
            return Err(format!("{} bytes are too few for {}×{} pixels", bytes.len(), size.width, size.height));
        }
        if get(tj::TJPARAM_TJPARAM_PRECISION) != 8 {
            return Err(format!("{} bits a sample are not supported", get(tj::TJPARAM_TJPARAM_PRECISION)));
        }
        if !markers.is_whole {
            return Err("the file is cut off: it has no end-of-image marker".to_owned());
        }
        let colourspace = get(tj::TJPARAM_TJPARAM_COLORSPACE);
        let is_lossless = get(tj::TJPARAM_TJPARAM_LOSSLESS) != 0;
        let unit_width = match self.get(tj::TJPARAM_TJPARAM_SUBSAMP) as tj::TJSAMP {
            _ if is_lossless => None,
            tj::TJSAMP_TJSAMP_444 | tj::TJSAMP_TJSAMP_GRAY | tj::TJSAMP_TJSAMP_440 | tj::TJSAMP_TJSAMP_441 => Some(8),
            tj::TJSAMP_TJSAMP_422 | tj::TJSAMP_TJSAMP_420 => Some(16),
            tj::TJSAMP_TJSAMP_411 => Some(32),
            _ => None, // a mixture that TurboJPEG has no name for
        };
        let is_cmyk = matches!(colourspace, tj::TJCS_TJCS_CMYK | tj::TJCS_TJCS_YCCK);
        let most = if is_cmyk { CMYK_BYTES_PER_PIXEL } else { JPEG_BYTES_PER_PIXEL };
        if bytes.len() as u64 > READ_AT_ONCE + most * size.count() {
            let (length, Size { width, height }) = (bytes.len(), size);
            return Err(format!("{length} bytes are too many for {width}×{height} pixels; save it as a smaller file"));
        }
        let scans = (MOST_PIXELS_OF_ALL_SCANS / size.count()).min(MOST_SCANS);
        self.set(tj::TJPARAM_TJPARAM_SCANLIMIT, scans as c_int);
        // In megabytes: what a progressive image takes before it is one, in a decoder's half of what it may take.
        let memory = (DECODER + BYTES_PER_PIXEL / 2 * size.count()) >> 20;
        self.set(tj::TJPARAM_TJPARAM_MAXMEMORY, memory as c_int);
        let is_gray = colourspace == tj::TJCS_TJCS_GRAY;
        Ok(Header { bytes, size, exif: markers.exif, is_cmyk, is_gray, unit_width })
    }

    /// Decodes a region of the image whose header was read last, into `pixels`: height×width×3 bytes.
    pub fn decompress(&mut self, header: &Header<'_>, region: Region, pixels: &mut Vec<u8>) -> Result<(), String> {
        let decompressed = self.try_decompress(header, region, pixels);
        self.start_afresh_after(decompressed)
    }

    fn try_decompress(&mut self, header: &Header<'_>, region: Region, pixels: &mut Vec<u8>) -> Result<(), String> {
        let scale = tj::tjscalingfactor { num: 1, denom: region.denominator as c_int };
        let Size { width, height } = region.size;
        let part = match header.unit_width {
            None => tj::tjregion { x: 0, y: 0, w: 0, h: 0 },
            Some(_) => {
                tj::tjregion { x: region.left as c_int, y: region.top as c_int, w: width as c_int, h: height as c_int }
            }
        };
        // SAFETY: both calls take plain values, and check them.
        let status = unsafe { tj::tj3SetScalingFactor(self.handle.as_ptr(), scale) };
        self.check(status)?;
        // SAFETY: as above.
        let status = unsafe { tj::tj3SetCroppingRegion(self.handle.as_ptr(), part) };
        self.check(status)?;
        let (format, channels) = if header.is_cmyk { (tj::TJPF_TJPF_CMYK, 4) } else { (tj::TJPF_TJPF_RGB, 3) };
        let out = if header.is_cmyk { &mut self.cmyk } else { &mut *pixels };
        let pitch = width as usize * channels;
        make_room(out, height as usize * pitch);
        // SAFETY: the input is a slice that outlives the call. The output has `height` rows of `pitch` bytes. TurboJPEG
        // reads the header again from the same bytes, so that it finds the size for which the region was made; a
        // region that does not fit into the image is an error there.
        let status = unsafe {
            tj::tj3Decompress8(
                self.handle.as_ptr(),
                header.bytes.as_ptr(),
                header.bytes.len() as _,
                out.as_mut_ptr(),
                pitch as c_int,
                format,
            )
        };
        self.check(status)?;
        if header.is_cmyk {
            make_room(pixels, region.size.bytes());
            colour::inverted_cmyk_to_rgb(&self.cmyk, pixels);
        }
        Ok(())
    }

    /// What a broken file leaves in an instance would break the next.
    fn start_afresh_after<T>(&mut self, result: Result<T, String>) -> Result<T, String> {
        if result.is_err() {
            *self = Self::new();
        }
        result
    }

    fn set(&mut self, parameter: tj::TJPARAM, value: c_int) {
        // SAFETY: plain values, which TurboJPEG checks.
        let status = unsafe { tj::tj3Set(self.handle.as_ptr(), parameter as c_int, value) };
        assert_eq!(status, 0, "libjpeg-turbo knows its own parameters");
    }

    fn get(&self, parameter: tj::TJPARAM) -> c_int {
        // SAFETY: plain values; nothing is changed.
        unsafe { tj::tj3Get(self.handle.as_ptr(), parameter as c_int) }
    }

    /// A warning is not an error: like Pillow, we take what a damaged file still holds, as long as it has an end.
    fn check(&self, status: c_int) -> Result<(), String> {
        // SAFETY: nothing is changed.
        let is_fatal = || unsafe { tj::tj3GetErrorCode(self.handle.as_ptr()) } == tj::TJERR_TJERR_FATAL as c_int;
        if status == 0 || !is_fatal() {
            return Ok(());
        }
        // SAFETY: the string belongs to the instance, ends with a zero byte, and is copied before the next call.
        let words = unsafe { CStr::from_ptr(tj::tj3GetErrorStr(self.handle.as_ptr())) };
        let words = crate::limits::quote(words.to_string_lossy());
        Err(words.strip_prefix(HEADER).unwrap_or(&words).to_owned())
    }
}

impl Drop for Decompressor {
    fn drop(&mut self) {
        // SAFETY: the instance is ours and nobody uses it after this.
        unsafe { tj::tj3Destroy(self.handle.as_ptr()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::select;

    fn file(name: &str) -> Vec<u8> {
        std::fs::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)).unwrap()
    }

    proptest! {
        #[test]
        fn a_region_is_the_same_part_of_the_image(
            name in select(vec!["420.jpg", "444.jpg", "progressive.jpg", "gray.jpg", "cmyk.jpg"]),
            left in 0.0..60.0, top in 0.0..40.0, width in 1.0..40.0, height in 1.0..30.0,
        ) {
            let bytes = file(name);
            let mut jpeg = Decompressor::new();
            let (mut all, mut part) = (Vec::new(), Vec::new());
            let header = jpeg.read_header(&bytes).unwrap();
            jpeg.decompress(&header, Region::whole(&header), &mut all).unwrap();
            let window = Window { left, top, width, height };
            let region = Region::around(&header, &window, 9, 1e9, Resample::Bilinear);
            jpeg.decompress(&header, region, &mut part).unwrap();
            let inside = Window {
                left: left - f64::from(region.left),
                top: top - f64::from(region.top),
                ..region.window(&window)
            };
            // All that the filter sees: the window and a pixel around it.
            let (x, y) = ((inside.left - 1.0).floor().max(0.0) as usize, (inside.top - 1.0).floor().max(0.0) as usize);
            let right = ((inside.left + width + 1.0).ceil() as usize).min(region.size.width as usize);
            let bottom = ((inside.top + height + 1.0).ceil() as usize).min(region.size.height as usize);
            for row in y..bottom {
                let of_part = (row * region.size.width as usize + x) * 3..(row * region.size.width as usize + right) * 3;
                let start = (row + region.top as usize) * header.size.width as usize + region.left as usize;
                let of_all = (start + x) * 3..(start + right) * 3;
                prop_assert_eq!(&part[of_part], &all[of_all], "row {} of {:?}", row, region);
            }
        }

        #[test]
        fn a_region_covers_its_window(
            width in 1u32..2000, height in 1u32..2000, left in 0.0..1.0, top in 0.0..1.0, share in 0.01..1.0,
            side in 1usize..300, detail in select(vec![1.0, 2.0]), unit in select(vec![None, Some(8), Some(16), Some(32)]),
        ) {
            let size = Size { width, height };
            let header = Header { bytes: &[], size, exif: None, is_cmyk: false, is_gray: false, unit_width: unit };
            let (w, h) = (f64::from(width) * share, f64::from(height) * share);
            let window = Window { left: (f64::from(width) - w) * left, top: (f64::from(height) - h) * top, width: w, height: h };
            let region = Region::around(&header, &window, side, detail, Resample::Bicubic);
            let scaled = region.window(&window);
            let from = (f64::from(region.left), f64::from(region.top));
            prop_assert!(scaled.left >= from.0 && scaled.top >= from.1);
            prop_assert!(scaled.left + scaled.width <= from.0 + f64::from(region.size.width) + 1.0);
            prop_assert!(scaled.top + scaled.height <= from.1 + f64::from(region.size.height) + 1.0);
            prop_assert!(region.left + region.size.width <= width.div_ceil(region.denominator));
            prop_assert!(region.top + region.size.height <= height.div_ceil(region.denominator));
            prop_assert!(region.denominator == 1 || w.min(h) / f64::from(region.denominator) >= side as f64 * detail);
            if let Some(unit) = unit {
                prop_assert_eq!(region.left % unit.div_ceil(region.denominator), 0);
            }
        }
    }
}
