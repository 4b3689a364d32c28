//! What nodes say to each other about whole units: when one takes them, and when two compare them.

use arbitrary::{Result, Unstructured};
use rondo_core::id::{Epoch, GroupId, PartitionId, Unit};
use rondo_core::version::hlc::Hlc;
use rondo_core::wire::repair::{Compare, RepairMessage, Rooted, Told};
use rondo_core::wire::transfer::{Digested, Listing, TransferMessage};

use crate::{bytes, key, layouts, op, several};

pub(crate) fn transfer_message(u: &mut Unstructured<'_>) -> Result<TransferMessage> {
    let (op, layouts) = (op(u)?, layouts(u)?);
    if u.arbitrary()? {
        return Ok(TransferMessage::Ask { op, layouts, unit: unit(u)?, from: bytes(u)? });
    }
    let listing = match u.int_in_range(0..=5)? {
        0 => {
            let next = if u.arbitrary()? { Some(bytes(u)?) } else { None };
            let purged = (Epoch(u.arbitrary()?), Hlc(u.arbitrary()?));
            Listing::Keys { keys: several(u, 4, digested)?, next, purged }
        }
        1 => Listing::NotYet,
        2 => Listing::Unreadable,
        3 => Listing::StaleLayout,
        4 => Listing::NotCounted,
        _ => Listing::Failed,
    };
    Ok(TransferMessage::Answer { op, layouts, listing })
}

fn unit(u: &mut Unstructured<'_>) -> Result<Unit> {
    Ok(Unit { group: GroupId(u.arbitrary()?), partition: PartitionId(u.arbitrary()?) })
}

fn digested(u: &mut Unstructured<'_>) -> Result<Digested> {
    Ok(Digested { key: key(u)?, digest: u.arbitrary()?, bytes: u.arbitrary()? })
}

pub(crate) fn repair_message(u: &mut Unstructured<'_>) -> Result<RepairMessage> {
    let (op, layouts, format) = (op(u)?, layouts(u)?, u.arbitrary()?);
    if u.arbitrary()? {
        let question = match u.int_in_range(0..=5)? {
            0 => Compare::Roots { units: several(u, 4, unit)? },
            1 => Compare::Inner { unit: unit(u)? },
            2 => Compare::Leaves { unit: unit(u)?, inner: u.arbitrary()? },
            3 => {
                let leaves = several(u, 8, |u| u.arbitrary())?;
                Compare::Keys { unit: unit(u)?, leaves, from: bytes(u)? }
            }
            4 => Compare::Regrow { unit: unit(u)? },
            _ => Compare::Begin,
        };
        return Ok(RepairMessage::Ask { op, layouts, format, question });
    }
    let rooted = |u: &mut Unstructured<'_>| Ok(Rooted { unit: unit(u)?, root: u.arbitrary()? });
    let told = match u.int_in_range(0..=8)? {
        0 => Told::Roots { roots: several(u, 4, rooted)? },
        1 => Told::Hashes { hashes: several(u, 8, |u| u.arbitrary())? },
        2 => {
            let next = if u.arbitrary()? { Some(bytes(u)?) } else { None };
            Told::Keys { keys: several(u, 4, digested)?, next }
        }
        3 => Told::Done,
        4 => Told::Unreadable,
        5 => Told::StaleLayout,
        6 => Told::NotCounted,
        7 => Told::OtherFormat,
        _ => Told::Failed,
    };
    Ok(RepairMessage::Answer { op, layouts, format, told })
}
