//! B04: the device string.

use layout::DeviceRequest;

use super::super::need::{exactly, need};
use crate::check::{Check, Outcome, Tier};
use crate::finding::{Finding, Severity};
use crate::words::plural;

pub(crate) const B04: Check = Check {
    id: "B04",
    title: "the device string names no devices that are there",
    severity: Severity::Error,
    tier: Tier::Script,
    explanation: "--device is '' (CUDA where there is, else the CPU), cpu, cuda, or a list: 0, 0,1, cuda:0. Indices count the \
                  devices of one node, each at most once, and must be among those that the job has.",
    source: "ultralytics/yolov5, utils/torch_utils.py (select_device), read strictly",
    run: |subject| {
        let training = &subject.training;
        let layout = subject.first_layout();
        let at = training.device.as_ref().and_then(crate::origin::Sourced::span);
        let text = training.device.as_ref().map_or("", |device| device.value.as_str());
        if training.request.is_none()
            && training.device.is_some()
            && let Err(error) = text.parse::<DeviceRequest>()
        {
            return Outcome::of([Finding::error(format!("--device: {error}")).at(at, "")]);
        }
        let listed = matches!(training.request, Some(DeviceRequest::Cuda | DeviceRequest::CudaList(_)));
        if !listed {
            return Outcome::Pass;
        }
        let present = need!(exactly(&layout.devices.value));
        let finding = match &training.request {
            Some(DeviceRequest::Cuda) if present == 0 => {
                Finding::error("--device cuda: a node has no CUDA device").help("use --device cpu, or ask for GPUs")
            }
            Some(DeviceRequest::CudaList(indices)) => match indices.iter().find(|&&index| index >= present) {
                Some(index) => {
                    let has = plural(present, "device");
                    Finding::error(format!("--device {text}: a node has no CUDA device {index} (it has {present})"))
                        .help(format!("a node has {has}, counted from 0, whatever else the machine holds"))
                }
                None => return Outcome::Pass,
            },
            _ => return Outcome::Pass,
        };
        Outcome::of([finding.at(at, "").at(layout.devices.span(), "")])
    },
};
