//! A collective as one rank calls it: what all ranks must agree on before any data moves.

use std::fmt;

use mpi::{Element, Reduction};

/// Which collective.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    AllReduce(Reduction),
    Broadcast { root: usize },
    AllGather,
    Barrier,
    TreeSum,
}

/// A collective over `count` elements of a type. Every rank must call the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub kind: Kind,
    pub element: Element,
    pub count: usize,
}

const ELEMENTS: [(Element, &str); 6] = [
    (Element::U8, "u8"),
    (Element::I32, "i32"),
    (Element::I64, "i64"),
    (Element::U64, "u64"),
    (Element::F32, "f32"),
    (Element::F64, "f64"),
];
const REDUCTIONS: [(Reduction, &str); 4] = [
    (Reduction::Sum, "sum"),
    (Reduction::Product, "product"),
    (Reduction::Min, "minimum"),
    (Reduction::Max, "maximum"),
];

/// Three numbers that say all of a call: as they travel, in an order in which equal means equal.
pub(crate) type Code = [u64; 3];

impl Call {
    pub(crate) fn code(self) -> Code {
        let (kind, detail) = match self.kind {
            Kind::AllReduce(reduction) => (0, reduction as u64),
            Kind::Broadcast { root } => (1, root as u64),
            Kind::AllGather => (2, 0),
            Kind::Barrier => (3, 0),
            Kind::TreeSum => (4, 0),
        };
        [kind << 8 | self.element as u64, detail, self.count as u64]
    }

    /// The call that `code` says; `None` where no call has that code.
    pub(crate) fn from_code(code: Code) -> Option<Self> {
        let [head, detail, count] = code;
        let kind = match head >> 8 {
            0 => Kind::AllReduce(REDUCTIONS.iter().map(|&(op, _)| op).find(|&op| op as u64 == detail)?),
            1 => Kind::Broadcast { root: detail as usize },
            2 => Kind::AllGather,
            3 => Kind::Barrier,
            4 => Kind::TreeSum,
            _ => return None,
        };
        let element = ELEMENTS.iter().map(|&(element, _)| element).find(|&element| element as u64 == head & 0xff)?;
        Some(Self { kind, element, count: count as usize })
    }

    /// Its name alone.
    pub(crate) fn name(self) -> &'static str {
        match self.kind {
            Kind::AllReduce(_) => "all-reduce",
            Kind::Broadcast { .. } => "broadcast",
            Kind::AllGather => "all-gather",
            Kind::Barrier => "barrier",
            Kind::TreeSum => "sum along a tree",
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let element = ELEMENTS.iter().find(|(element, _)| *element == self.element).map_or("?", |(_, name)| name);
        f.write_str(self.name())?;
        match self.kind {
            Kind::AllReduce(reduction) => {
                let op = REDUCTIONS.iter().find(|(op, _)| *op == reduction).map_or("?", |(_, name)| name);
                write!(f, " ({op} of {} {element})", self.count)
            }
            Kind::Broadcast { root } => write!(f, " ({} {element} from rank {root})", self.count),
            Kind::AllGather => write!(f, " ({} {element} of each rank)", self.count),
            Kind::Barrier => Ok(()),
            Kind::TreeSum => write!(f, " ({} {element})", self.count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_survive_the_journey() {
        let reductions = REDUCTIONS.map(|(reduction, _)| Kind::AllReduce(reduction));
        let others = [Kind::Broadcast { root: 7 }, Kind::AllGather, Kind::Barrier, Kind::TreeSum];
        let mut seen = Vec::new();
        for kind in reductions.into_iter().chain(others) {
            for (element, _) in ELEMENTS {
                let call = Call { kind, element, count: 1 << 40 };
                assert_eq!(Call::from_code(call.code()), Some(call));
                assert!(!seen.contains(&call.code()), "{call} is told apart");
                seen.push(call.code());
            }
        }
        assert_eq!(Call::from_code([9 << 8, 0, 0]), None);
    }

    #[test]
    fn calls_say_what_they_are() {
        let call = |kind| Call { kind, element: Element::F32, count: 1000 }.to_string();
        assert_eq!(call(Kind::AllReduce(Reduction::Sum)), "all-reduce (sum of 1000 f32)");
        assert_eq!(call(Kind::Broadcast { root: 2 }), "broadcast (1000 f32 from rank 2)");
        assert_eq!(call(Kind::AllGather), "all-gather (1000 f32 of each rank)");
        assert_eq!(call(Kind::Barrier), "barrier");
        assert_eq!(call(Kind::TreeSum), "sum along a tree (1000 f32)");
    }
}
