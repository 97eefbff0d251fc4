//! What a source gives into what is true: the one place between the sources and everything that judges.
//!
//! ```text
//! raw -> table -> * scale + offset -> the channel's unit -> within its range? -> windows, detectors, records
//! ```
//!
//! A value beyond the table goes on along its outermost piece and is of [`Quality::Uncertain`]; one outside the range is
//! none: `NoData::OutOfRange`. A reading without a value keeps the reason that its source gave.

use std::collections::HashMap;
use std::sync::Arc;

pub use crate::reading::Quality;
use crate::reading::{ChannelId, NoData, Reading, Value, value_from_f64};
use crate::units::Conversion;

/// What is done to the values of one channel.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Treatment {
    /// Raw values with their true ones, rising in the raw value; straight lines between them.
    pub table: Option<Arc<[(f64, f64)]>>,
    /// Factor, after the table; none is 1.
    pub scale: Option<f64>,
    /// Added after the factor, in the unit of the source; none is 0.
    pub offset: Option<f64>,
    /// From the source's unit to the channel's.
    pub conversion: Option<Conversion>,
    /// Lowest possible value, in the channel's unit.
    pub range_low: Option<f64>,
    /// Highest possible value.
    pub range_high: Option<f64>,
}

impl Treatment {
    /// Whether values pass through it as they are.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// The true value of a raw one, with what it is worth.
    pub fn apply(&self, raw: f64) -> (Value, Quality) {
        let (value, known) = self.table.as_ref().map_or((raw, true), |table| interpolated(table, raw));
        let value = value * self.scale.unwrap_or(1.0) + self.offset.unwrap_or(0.0);
        let value = self.conversion.map_or(value, |conversion| conversion.apply(value));
        match value_from_f64(value) {
            Ok(value) if !self.is_possible(value) => (Err(NoData::OutOfRange), Quality::Bad),
            Ok(value) => (Ok(value), if known { Quality::Good } else { Quality::Uncertain }),
            Err(why) => (Err(why), Quality::Bad),
        }
    }

    fn is_possible(&self, value: f64) -> bool {
        self.range_low.is_none_or(|low| value >= low) && self.range_high.is_none_or(|high| value <= high)
    }
}

/// The value on the line between the points around `raw`, and whether there are points on both sides.
fn interpolated(table: &[(f64, f64)], raw: f64) -> (f64, bool) {
    let (Some(first), Some(last)) = (table.first(), table.last()) else { return (raw, false) };
    let upper = table.partition_point(|(x, _)| *x < raw).clamp(1, (table.len() - 1).max(1));
    let ((x0, y0), (x1, y1)) = match (table.get(upper - 1), table.get(upper)) {
        (Some(low), Some(high)) => (*low, *high),
        _ => return (first.1, raw == first.0),
    };
    let value = y0 + (y1 - y0) * ((raw - x0) / (x1 - x0));
    (value, (first.0..=last.0).contains(&raw))
}

/// The treatments of all channels. A channel without one costs a look into a table.
#[derive(Debug, Default)]
pub struct Calibrator {
    treated: HashMap<ChannelId, Treatment>,
}

impl Calibrator {
    /// Sets what is done to a channel from now on.
    pub fn set(&mut self, channel: &ChannelId, treatment: Treatment) {
        if treatment.is_nothing() {
            self.treated.remove(channel);
        } else {
            self.treated.insert(channel.clone(), treatment);
        }
    }

    /// The reading as it is judged and kept, with what it is worth.
    pub fn apply(&self, reading: &Reading) -> (Value, Quality) {
        match reading.value {
            Err(why) => (Err(why), Quality::Bad),
            Ok(raw) => match self.treated.get(&reading.channel) {
                Some(treatment) => treatment.apply(raw),
                None => (Ok(raw), Quality::Good),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Wall;

    fn table(points: &[(f64, f64)]) -> Treatment {
        Treatment { table: Some(points.into()), ..Treatment::default() }
    }

    #[test]
    fn a_table_is_followed_in_straight_lines_and_beyond_its_ends_with_a_doubt() {
        let curve = table(&[(0.0, 0.0), (10.0, 100.0), (20.0, 150.0)]);
        for (raw, value, quality) in [
            (0.0, 0.0, Quality::Good),
            (5.0, 50.0, Quality::Good),
            (10.0, 100.0, Quality::Good),
            (15.0, 125.0, Quality::Good),
            (20.0, 150.0, Quality::Good),
            (22.0, 160.0, Quality::Uncertain),
            (-1.0, -10.0, Quality::Uncertain),
        ] {
            assert_eq!(curve.apply(raw), (Ok(value), quality), "{raw}");
        }
        assert_eq!(table(&[]).apply(3.0), (Ok(3.0), Quality::Uncertain));
        assert_eq!(table(&[(1.0, 7.0)]).apply(3.0), (Ok(7.0), Quality::Uncertain));
    }

    #[test]
    fn scale_and_offset_come_before_the_unit_and_the_range_after_it() {
        // 4 to 20 mA for 0 to 300 psi, told in kPa.
        let treatment = Treatment {
            scale: Some(300.0 / 16.0),
            offset: Some(-75.0),
            conversion: Conversion::between("psi", "kPa"),
            range_low: Some(0.0),
            range_high: Some(2100.0),
            ..Treatment::default()
        };
        let (value, quality) = treatment.apply(12.0);
        assert!(value.is_ok_and(|v| (v - 1_034.213_594).abs() < 1e-5) && quality == Quality::Good);
        // A broken wire gives no current: no pressure at all, and not a negative one.
        assert_eq!(treatment.apply(0.0), (Err(NoData::OutOfRange), Quality::Bad));
        assert_eq!(treatment.apply(25.0), (Err(NoData::OutOfRange), Quality::Bad));
    }

    #[test]
    fn no_number_becomes_one_that_is_none() {
        let steep = Treatment { scale: Some(1e300), ..Treatment::default() };
        assert_eq!(steep.apply(1e300), (Err(NoData::Infinite), Quality::Bad));
        assert_eq!(steep.apply(1.0), (Ok(1e300), Quality::Good));
        let flat = table(&[(1.0, 2.0), (1.0, 3.0)]);
        assert_eq!(flat.apply(1.0).1, Quality::Bad, "two values for one");
    }

    #[test]
    fn a_reason_of_the_source_is_kept_and_others_are_left_alone() {
        let mut calibrator = Calibrator::default();
        let (own, other) = (ChannelId::new("a.x").unwrap(), ChannelId::new("a.y").unwrap());
        calibrator.set(&own, Treatment { offset: Some(1.0), ..Treatment::default() });
        let reading = |channel: &ChannelId, value| Reading::new(channel.clone(), Wall(0), value);
        assert_eq!(calibrator.apply(&reading(&own, Ok(1.0))), (Ok(2.0), Quality::Good));
        assert_eq!(calibrator.apply(&reading(&other, Ok(1.0))), (Ok(1.0), Quality::Good));
        let nacked = Err(NoData::NoAnswer);
        assert_eq!(calibrator.apply(&reading(&own, nacked)), (nacked, Quality::Bad));
        calibrator.set(&own, Treatment::default());
        assert_eq!(calibrator.apply(&reading(&own, Ok(1.0))), (Ok(1.0), Quality::Good));
    }
}
