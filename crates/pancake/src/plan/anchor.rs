//! This module decides where the request for a row to begin from may lie: above the upper bound of
//! a walk, and not near now.

use crate::schema::keyset::Order;
use crate::time::{Micros, UnixSeconds};

/// No client sends an `until` near now or beyond (docs/api.md), so none nearer than this
/// is sent here.
pub(crate) const RECENT_SECONDS: i64 = 86_400;
/// By `updated_at` a walk begins so far above its upper bound.
const MOVING_MARGIN_SECONDS: i64 = 6 * 3_600;

/// The anchor from which a walk down to an upper bound begins.
pub(crate) fn above(high: Micros, order: Order) -> UnixSeconds {
    let margin = if order == Order::UpdatedAt { MOVING_MARGIN_SECONDS } else { 1 };
    UnixSeconds(high.ceil_second().0.saturating_add(margin))
}

/// The latest anchor that is sent at this time.
pub(crate) fn latest_anchor(now: Micros) -> UnixSeconds {
    UnixSeconds(now.floor_second().0 - RECENT_SECONDS)
}

/// Whether a walk down to this upper bound begins at the head.
pub fn is_too_recent(high: Micros, order: Order, now: Micros) -> bool {
    above(high, order).0 > latest_anchor(now).0
}
