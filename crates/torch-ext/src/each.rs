//! Many small tensors in a few calls: on a GPU each call costs more than such a tensor.
#![expect(unsafe_code, reason = "calls the shim")]

use tch::{Kind, Tensor, no_grad};

use crate::Result;
use crate::ffi::{self, handles};

/// Adds `number` to every element of each of `tensors`, in place.
///
/// # Errors
/// What libtorch threw.
pub fn add_to_each(tensors: &[Tensor], number: i64) -> Result<()> {
    let handles = handles(tensors);
    // SAFETY: all handles are of tensors that live during the call.
    unsafe { ffi::te_each_add(handles.list(), number) }.check("adding to tensors")
}

/// Makes each of `targets`, in place, what its counterpart in `sources` is.
///
/// # Errors
/// Lists of different lengths; what libtorch threw: other shapes.
pub fn copy_each(targets: &[Tensor], sources: &[Tensor]) -> Result<()> {
    let (targets, sources) = (handles(targets), handles(sources));
    // SAFETY: all handles are of tensors that live during the call.
    unsafe { ffi::te_each_copy(targets.list(), sources.list()) }.check("copying tensors")
}

/// Takes the gradients of `parameters` away: the next backward pass writes new ones instead of adding to zeros.
///
/// # Errors
/// What libtorch threw.
pub fn drop_gradients(parameters: &[Tensor]) -> Result<()> {
    let handles = handles(parameters);
    // SAFETY: the handles are of tensors that live during the call.
    unsafe { ffi::te_drop_grads(handles.list()) }.check("dropping gradients")
}

/// Makes `gradients` those of `parameters`, one of its shape and type for each, in the place of those that they have.
///
/// # Errors
/// Lists of different lengths; what libtorch threw: other shapes.
pub fn set_gradients(parameters: &[Tensor], gradients: &[Tensor]) -> Result<()> {
    let (parameters, gradients) = (handles(parameters), handles(gradients));
    // SAFETY: all handles are of tensors that live during the call.
    unsafe { ffi::te_set_grads(parameters.list(), gradients.list()) }.check("setting gradients")
}

/// What tensors were once, so that they can be it again.
#[derive(Debug)]
pub struct Kept {
    /// Those of one type: the tensors, and their elements then, one tensor's after the other's.
    groups: Vec<(Vec<Tensor>, Tensor)>,
}

/// The elements of tensors, one tensor's after the other's, each in its logical order, whatever its memory format.
///
/// # Errors
/// No tensor; what libtorch threw.
pub fn elements(tensors: &[Tensor]) -> Result<Tensor> {
    let flat: Vec<_> = tensors.iter().map(|tensor| tensor.detach().flatten(0, -1)).collect();
    Ok(no_grad(|| Tensor::f_cat(&flat, 0))?)
}

/// Makes the elements of tensors, in place, those that [`elements`] would give.
///
/// # Errors
/// Another number of them; what libtorch threw.
pub fn set_elements(tensors: &[Tensor], elements: &Tensor) -> Result<()> {
    let lengths: Vec<_> = tensors.iter().map(|tensor| tensor.numel() as i64).collect();
    let parts = elements.f_split_with_sizes(&lengths[..], 0)?.into_iter().zip(tensors);
    let parts: Vec<_> = parts.map(|(part, tensor)| part.view(&tensor.size()[..])).collect();
    copy_each(tensors, &parts)
}

impl Kept {
    /// What `tensors`, all on one device, are now.
    ///
    /// # Errors
    /// What libtorch threw.
    pub fn of(tensors: &[Tensor]) -> Result<Self> {
        let mut of_kinds: Vec<(Kind, Vec<Tensor>)> = Vec::new();
        for tensor in tensors {
            let (kind, tensor) = (tensor.kind(), tensor.shallow_clone());
            match of_kinds.iter_mut().find(|(known, _)| *known == kind) {
                Some((_, others)) => others.push(tensor),
                None => of_kinds.push((kind, vec![tensor])),
            }
        }
        let groups = of_kinds.into_iter().map(|(_, tensors)| elements(&tensors).map(|flat| (tensors, flat)));
        Ok(Self { groups: groups.collect::<Result<_>>()? })
    }

    /// Makes them what they were, where `flag`, one truth value on their device, is true; else they stay as they are. Waits for
    /// nothing.
    ///
    /// # Errors
    /// What libtorch threw.
    pub fn restore_where(&self, flag: &Tensor) -> Result<()> {
        for (tensors, before) in &self.groups {
            // A choice, and no product: what is to be left behind may be NaN.
            set_elements(tensors, &before.f_where_self(flag, &elements(tensors)?)?)?;
        }
        Ok(())
    }

    /// Makes them what they were.
    ///
    /// # Errors
    /// What libtorch threw.
    pub fn restore(&self) -> Result<()> {
        self.groups.iter().try_for_each(|(tensors, before)| set_elements(tensors, before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn each_grows_by_the_number() {
        let counters = [Tensor::from(3i64), Tensor::from_slice(&[1i64, 2])];
        add_to_each(&counters, 2).unwrap();
        assert_eq!(counters[0].int64_value(&[]), 5);
        assert_eq!(Vec::<i64>::try_from(&counters[1]).unwrap(), [3, 4]);
        add_to_each(&[], 1).unwrap();
        copy_each(&counters[..1], &[Tensor::from(9i64)]).unwrap();
        assert_eq!(counters[0].int64_value(&[]), 9);
        assert!(copy_each(&counters, &[]).is_err());
    }

    #[test]
    fn tensors_become_what_they_were_only_where_they_are_to() {
        let float = (Kind::Float, Device::Cpu);
        let (values, count, rows) = (Tensor::arange(4, float), Tensor::from(7i64), Tensor::ones([2, 3], float));
        let kept = Kept::of(&[values.shallow_clone(), count.shallow_clone(), rows.shallow_clone()]).unwrap();
        let _ =
            (values.shallow_clone().fill_(f64::NAN), count.shallow_clone().fill_(8), rows.shallow_clone().fill_(2.0));
        kept.restore_where(&Tensor::from_slice(&[false])).unwrap();
        assert!(values.isnan().all().int64_value(&[]) == 1 && count.int64_value(&[]) == 8);
        kept.restore_where(&Tensor::from_slice(&[true])).unwrap();
        assert!(values.equal(&Tensor::arange(4, float)) && count.int64_value(&[]) == 7);
        assert!(rows.equal(&Tensor::ones([2, 3], float)));
        let _ = rows.shallow_clone().fill_(2.0);
        kept.restore().unwrap();
        assert!(rows.equal(&Tensor::ones([2, 3], float)));
    }

    #[test]
    fn elements_go_and_come_in_logical_order() {
        let image = Tensor::arange(24, (Kind::Float, Device::Cpu)).reshape([2, 3, 2, 2]);
        let tensors = [image.permute([0, 2, 3, 1]), Tensor::from_slice(&[7.0_f32])];
        let back = [tensors[0].zeros_like(), tensors[1].zeros_like()];
        set_elements(&back, &elements(&tensors).unwrap()).unwrap();
        assert!(back[0] == tensors[0] && back[1] == tensors[1]);
        assert!(set_elements(&back, &Tensor::from_slice(&[1.0_f32])).is_err());
    }

    #[test]
    fn gradients_come_and_go() {
        let weights = [Tensor::ones([2], (Kind::Float, Device::Cpu)).set_requires_grad(true)];
        let gradients = [Tensor::from_slice(&[3.0_f32, 4.0])];
        set_gradients(&weights, &gradients).unwrap();
        assert!(weights[0].grad() == gradients[0]);
        drop_gradients(&weights).unwrap();
        assert!(!weights[0].grad().defined());
        assert!(set_gradients(&weights, &[]).is_err());
    }
}
