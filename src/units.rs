//! Units of measure: UCUM codes with their dimension, and conversion between those of one dimension.
//!
//! A table, not a parser: it knows what sensors and plants speak (ucum.org, case-sensitive codes). What it does not know
//! is still a unit, it just can't be converted. Spellings that people use instead of the code are understood.

/// What a unit measures; only units of one dimension convert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dimension {
    Temperature,
    Pressure,
    Length,
    Speed,
    Acceleration,
    Current,
    Voltage,
    Resistance,
    Power,
    Energy,
    Frequency,
    Flow,
    MassFlow,
    Volume,
    Mass,
    Angle,
    AngularSpeed,
    Ratio,
    Time,
    Data,
    DataRate,
    Force,
    Torque,
    Conductivity,
    Charge,
}

use Dimension as D;

/// A value in the dimension's own unit is `value * factor + offset`.
type Row = (&'static str, Dimension, f64, f64);

const FOOT: f64 = 0.3048;
const INCH: f64 = 0.0254;
const PSI: f64 = 6_894.757_293_168_36;
const POUND: f64 = 0.453_592_37;
const GALLON: f64 = 3.785_411_784e-3;
const GRAVITY: f64 = 9.806_65;

#[rustfmt::skip]
const UNITS: &[Row] = &[
    ("K", D::Temperature, 1.0, 0.0), ("Cel", D::Temperature, 1.0, 273.15),
    ("[degF]", D::Temperature, 5.0 / 9.0, 459.67 * 5.0 / 9.0),
    ("Pa", D::Pressure, 1.0, 0.0), ("hPa", D::Pressure, 100.0, 0.0), ("kPa", D::Pressure, 1e3, 0.0),
    ("MPa", D::Pressure, 1e6, 0.0), ("bar", D::Pressure, 1e5, 0.0), ("mbar", D::Pressure, 100.0, 0.0),
    ("[psi]", D::Pressure, PSI, 0.0), ("atm", D::Pressure, 101_325.0, 0.0),
    ("mm[Hg]", D::Pressure, 133.322_387_415, 0.0), ("m[H2O]", D::Pressure, 9_806.65, 0.0),
    ("m", D::Length, 1.0, 0.0), ("mm", D::Length, 1e-3, 0.0), ("cm", D::Length, 1e-2, 0.0),
    ("um", D::Length, 1e-6, 0.0), ("km", D::Length, 1e3, 0.0), ("[in_i]", D::Length, INCH, 0.0),
    ("[ft_i]", D::Length, FOOT, 0.0),
    ("m/s", D::Speed, 1.0, 0.0), ("mm/s", D::Speed, 1e-3, 0.0), ("km/h", D::Speed, 1.0 / 3.6, 0.0),
    ("[in_i]/s", D::Speed, INCH, 0.0), ("[ft_i]/s", D::Speed, FOOT, 0.0), ("[mi_i]/h", D::Speed, 0.447_04, 0.0),
    ("m/s2", D::Acceleration, 1.0, 0.0), ("mm/s2", D::Acceleration, 1e-3, 0.0), ("[g]", D::Acceleration, GRAVITY, 0.0),
    ("A", D::Current, 1.0, 0.0), ("mA", D::Current, 1e-3, 0.0), ("uA", D::Current, 1e-6, 0.0), ("kA", D::Current, 1e3, 0.0),
    ("V", D::Voltage, 1.0, 0.0), ("mV", D::Voltage, 1e-3, 0.0), ("uV", D::Voltage, 1e-6, 0.0), ("kV", D::Voltage, 1e3, 0.0),
    ("Ohm", D::Resistance, 1.0, 0.0), ("kOhm", D::Resistance, 1e3, 0.0), ("MOhm", D::Resistance, 1e6, 0.0),
    ("W", D::Power, 1.0, 0.0), ("mW", D::Power, 1e-3, 0.0), ("kW", D::Power, 1e3, 0.0), ("MW", D::Power, 1e6, 0.0),
    ("[HP]", D::Power, 745.699_871_582_270_2, 0.0),
    ("J", D::Energy, 1.0, 0.0), ("kJ", D::Energy, 1e3, 0.0), ("MJ", D::Energy, 1e6, 0.0),
    ("W.h", D::Energy, 3600.0, 0.0), ("kW.h", D::Energy, 3.6e6, 0.0), ("MW.h", D::Energy, 3.6e9, 0.0),
    ("Hz", D::Frequency, 1.0, 0.0), ("kHz", D::Frequency, 1e3, 0.0), ("/s", D::Frequency, 1.0, 0.0),
    ("/min", D::Frequency, 1.0 / 60.0, 0.0), ("/h", D::Frequency, 1.0 / 3600.0, 0.0),
    ("m3/s", D::Flow, 1.0, 0.0), ("m3/h", D::Flow, 1.0 / 3600.0, 0.0), ("l/s", D::Flow, 1e-3, 0.0),
    ("l/min", D::Flow, 1e-3 / 60.0, 0.0), ("l/h", D::Flow, 1e-3 / 3600.0, 0.0),
    ("[gal_us]/min", D::Flow, GALLON / 60.0, 0.0),
    ("kg/s", D::MassFlow, 1.0, 0.0), ("kg/h", D::MassFlow, 1.0 / 3600.0, 0.0), ("t/h", D::MassFlow, 1.0 / 3.6, 0.0),
    ("m3", D::Volume, 1.0, 0.0), ("l", D::Volume, 1e-3, 0.0), ("ml", D::Volume, 1e-6, 0.0), ("[gal_us]", D::Volume, GALLON, 0.0),
    ("kg", D::Mass, 1.0, 0.0), ("g", D::Mass, 1e-3, 0.0), ("t", D::Mass, 1e3, 0.0), ("[lb_av]", D::Mass, POUND, 0.0),
    ("rad", D::Angle, 1.0, 0.0), ("deg", D::Angle, std::f64::consts::PI / 180.0, 0.0),
    ("rad/s", D::AngularSpeed, 1.0, 0.0), ("deg/s", D::AngularSpeed, std::f64::consts::PI / 180.0, 0.0),
    ("1", D::Ratio, 1.0, 0.0), ("%", D::Ratio, 1e-2, 0.0), ("[ppth]", D::Ratio, 1e-3, 0.0),
    ("[ppm]", D::Ratio, 1e-6, 0.0), ("[ppb]", D::Ratio, 1e-9, 0.0),
    ("s", D::Time, 1.0, 0.0), ("ms", D::Time, 1e-3, 0.0), ("us", D::Time, 1e-6, 0.0), ("min", D::Time, 60.0, 0.0),
    ("h", D::Time, 3600.0, 0.0), ("d", D::Time, 86_400.0, 0.0),
    ("By", D::Data, 1.0, 0.0), ("kBy", D::Data, 1e3, 0.0), ("MBy", D::Data, 1e6, 0.0), ("GBy", D::Data, 1e9, 0.0),
    ("bit", D::Data, 0.125, 0.0),
    ("By/s", D::DataRate, 1.0, 0.0), ("kBy/s", D::DataRate, 1e3, 0.0), ("MBy/s", D::DataRate, 1e6, 0.0),
    ("bit/s", D::DataRate, 0.125, 0.0),
    ("N", D::Force, 1.0, 0.0), ("kN", D::Force, 1e3, 0.0), ("[lbf_av]", D::Force, POUND * GRAVITY, 0.0),
    ("N.m", D::Torque, 1.0, 0.0), ("[ft_i].[lbf_av]", D::Torque, FOOT * POUND * GRAVITY, 0.0),
    ("S/m", D::Conductivity, 1.0, 0.0), ("mS/cm", D::Conductivity, 0.1, 0.0), ("uS/cm", D::Conductivity, 1e-4, 0.0),
    ("C", D::Charge, 1.0, 0.0), ("A.h", D::Charge, 3600.0, 0.0), ("mA.h", D::Charge, 3.6, 0.0),
];

/// What people write, and the code that they mean. Nothing that is a code of something else.
const SPELLINGS: &[(&str, &str)] = &[
    ("°C", "Cel"),
    ("degC", "Cel"),
    ("°F", "[degF]"),
    ("degF", "[degF]"),
    ("psi", "[psi]"),
    ("mmHg", "mm[Hg]"),
    ("mH2O", "m[H2O]"),
    ("in", "[in_i]"),
    ("ft", "[ft_i]"),
    ("mph", "[mi_i]/h"),
    ("rpm", "/min"),
    ("1/min", "/min"),
    ("1/s", "/s"),
    ("m³", "m3"),
    ("m³/h", "m3/h"),
    ("m/s²", "m/s2"),
    ("L", "l"),
    ("L/min", "l/min"),
    ("gpm", "[gal_us]/min"),
    ("lb", "[lb_av]"),
    ("hp", "[HP]"),
    ("Ω", "Ohm"),
    ("Wh", "W.h"),
    ("kWh", "kW.h"),
    ("MWh", "MW.h"),
    ("Ah", "A.h"),
    ("mAh", "mA.h"),
    ("Nm", "N.m"),
    ("ppm", "[ppm]"),
    ("ppb", "[ppb]"),
    ("%RH", "%"),
    ("B", "By"),
    ("B/s", "By/s"),
    ("µm", "um"),
    ("µA", "uA"),
    ("µV", "uV"),
    ("µS/cm", "uS/cm"),
];

/// The UCUM code that is meant by `written`: itself, unless it is a spelling of people.
pub fn canonical(written: &str) -> &str {
    SPELLINGS.iter().find(|(spelling, _)| *spelling == written).map_or(written, |(_, code)| code)
}

/// `value * factor + offset` is the value in the other unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conversion {
    factor: f64,
    offset: f64,
}

impl Conversion {
    /// From one unit to another, either spelled as people do; none where one is unknown or they measure different things.
    pub fn between(from: &str, to: &str) -> Option<Self> {
        let (_, dimension, factor, offset) = row(from)?;
        let (_, other, to_factor, to_offset) = row(to)?;
        (dimension == other)
            .then(|| Self { factor: factor / to_factor, offset: (offset - to_offset) / to_factor })
    }

    /// The value in the other unit.
    pub fn apply(self, value: f64) -> f64 {
        value * self.factor + self.offset
    }
}

fn row(unit: &str) -> Option<Row> {
    UNITS.iter().find(|(code, ..)| *code == canonical(unit)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits;

    #[test]
    fn units_of_the_field_convert() {
        for (value, from, to, expected) in [
            (212.0, "degF", "Cel", 100.0),
            (-40.0, "Cel", "[degF]", -40.0),
            (0.0, "K", "Cel", -273.15),
            (30.0, "[psi]", "kPa", 206.842_718_795),
            (1.0, "bar", "[psi]", 14.503_773_773),
            (20.0, "mA", "A", 0.02),
            (1500.0, "rpm", "Hz", 25.0),
            (3.6, "m3/h", "l/s", 1.0),
            (1.0, "[g]", "m/s2", 9.806_65),
            (0.5, "1", "%", 50.0),
            (1.0, "kWh", "MJ", 3.6),
            (8.0, "bit/s", "By/s", 1.0),
            (180.0, "deg", "rad", std::f64::consts::PI),
            (7.0, "mm/s", "mm/s", 7.0),
        ] {
            let found = Conversion::between(from, to).unwrap_or_else(|| panic!("{from} {to}")).apply(value);
            assert!(
                (found - expected).abs() <= 1e-8 * expected.abs().max(1.0),
                "{value} {from} = {found} {to}"
            );
        }
    }

    #[test]
    fn what_measures_something_else_or_is_unknown_does_not() {
        for (from, to) in [("Cel", "bar"), ("A", "V"), ("", "V"), ("furlong", "m"), ("m", "furlong")] {
            assert_eq!(Conversion::between(from, to), None, "{from} {to}");
        }
    }

    #[test]
    fn there_and_back_is_where_it_was() {
        for (from, dimension, ..) in UNITS {
            for (to, ..) in UNITS.iter().filter(|(_, other, ..)| other == dimension) {
                let there = Conversion::between(from, to).unwrap().apply(42.5);
                let back = Conversion::between(to, from).unwrap().apply(there);
                assert!((back - 42.5).abs() < 1e-6, "{from} {to} {back}");
            }
        }
    }

    #[test]
    fn codes_are_unique_short_and_no_spelling_hides_one() {
        for (n, (code, ..)) in UNITS.iter().enumerate() {
            assert!(code.len() <= limits::UNIT_BYTES_MAX, "{code}");
            assert!(UNITS[..n].iter().all(|(other, ..)| other != code), "{code} twice");
            assert_eq!(canonical(code), *code);
        }
        assert!(SPELLINGS.iter().all(|(_, code)| row(code).is_some()));
    }
}
