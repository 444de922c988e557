//! `--device`: the string that YOLOv5's users know, read strictly.

use std::fmt;
use std::str::FromStr;

/// Which devices a job asks for: the value of `--device`.
///
/// ```
/// use layout::DeviceRequest;
///
/// assert_eq!("0,1".parse(), Ok(DeviceRequest::CudaList(vec![0, 1])));
/// assert!("0,0".parse::<DeviceRequest>().is_err());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeviceRequest {
    /// `''` or `auto`: one CUDA device a rank where there are enough, else the CPU.
    #[default]
    Auto,
    /// `cpu`.
    Cpu,
    /// `cuda`: one CUDA device a rank, an error where there are none.
    Cuda,
    /// `0`, `0,1`, `cuda:0`: these CUDA devices of each node, in this order, one for each local rank.
    CudaList(Vec<usize>),
}

/// Why a device string was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// A part of the list is not a device index.
    #[error("invalid device '{part}' in '{text}': use '', cpu, cuda, 0, 0,1 or cuda:0")]
    NoDevice {
        /// The whole string.
        text: String,
        /// The part that could not be read.
        part: String,
    },
    /// A device is listed twice: two ranks would share it.
    #[error("device {index} is listed twice in '{text}'")]
    Twice {
        /// The whole string.
        text: String,
        /// The device's index.
        index: usize,
    },
}

impl FromStr for DeviceRequest {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let lower = text.trim().to_ascii_lowercase();
        match lower.as_str() {
            "" | "auto" => return Ok(Self::Auto),
            "cpu" => return Ok(Self::Cpu),
            "cuda" => return Ok(Self::Cuda),
            _ => {}
        }
        let mut indices = Vec::new();
        for (position, part) in lower.split(',').enumerate() {
            // `cuda:0,1` and `cuda:0,cuda:1` are both in use; `0,cuda:1` is a slip.
            let prefixed = part.trim().strip_prefix("cuda:");
            let digits = match prefixed {
                Some(digits) if position == 0 || lower.starts_with("cuda:") => digits,
                Some(_) => "",
                None => part.trim(),
            };
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            let index = digits.parse().ok().filter(|_| plain);
            let index = index.ok_or_else(|| DeviceError::NoDevice { text: text.to_owned(), part: part.to_owned() })?;
            if indices.contains(&index) {
                return Err(DeviceError::Twice { text: text.to_owned(), index });
            }
            indices.push(index);
        }
        Ok(Self::CudaList(indices))
    }
}

impl fmt::Display for DeviceRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda => f.write_str("cuda"),
            Self::CudaList(indices) => {
                let indices: Vec<_> = indices.iter().map(ToString::to_string).collect();
                f.write_str(&indices.join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn device_strings() {
        use DeviceRequest::{Auto, Cpu, Cuda, CudaList};
        let cases = [
            ("", Ok(Auto)),
            ("auto", Ok(Auto)),
            ("CPU", Ok(Cpu)),
            ("cuda", Ok(Cuda)),
            ("0", Ok(CudaList(vec![0]))),
            ("10,11", Ok(CudaList(vec![10, 11]))),
            (" 0, 1 ", Ok(CudaList(vec![0, 1]))),
            ("cuda:0", Ok(CudaList(vec![0]))),
            ("cuda:2,3", Ok(CudaList(vec![2, 3]))),
            ("cuda:2,cuda:3", Ok(CudaList(vec![2, 3]))),
            ("0,0", Err("device 0 is listed twice in '0,0'")),
            ("0,", Err("invalid device '' in '0,': use '', cpu, cuda, 0, 0,1 or cuda:0")),
            ("0，1", Err("invalid device '0，1' in '0，1': use '', cpu, cuda, 0, 0,1 or cuda:0")),
            ("+1", Err("invalid device '+1' in '+1': use '', cpu, cuda, 0, 0,1 or cuda:0")),
            ("-1", Err("invalid device '-1' in '-1': use '', cpu, cuda, 0, 0,1 or cuda:0")),
            ("0,cpu", Err("invalid device 'cpu' in '0,cpu': use '', cpu, cuda, 0, 0,1 or cuda:0")),
            ("0,cuda:1", Err("invalid device 'cuda:1' in '0,cuda:1': use '', cpu, cuda, 0, 0,1 or cuda:0")),
            ("gpu", Err("invalid device 'gpu' in 'gpu': use '', cpu, cuda, 0, 0,1 or cuda:0")),
        ];
        for (text, expected) in cases {
            let got = text.parse::<DeviceRequest>().map_err(|error| error.to_string());
            assert_eq!(got, expected.map_err(str::to_owned), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,20}") {
            let _ = text.parse::<DeviceRequest>();
        }

        #[test]
        fn what_is_printed_is_read_back(mut indices in proptest::collection::vec(0usize..64, 1..8)) {
            indices.sort_unstable();
            indices.dedup();
            let request = DeviceRequest::CudaList(indices);
            prop_assert_eq!(request.to_string().parse(), Ok(request));
        }
    }
}
