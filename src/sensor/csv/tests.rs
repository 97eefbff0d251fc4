//! What recordings of every kind, good and bad, come to.

use super::*;
use proptest::prelude::*;

fn reader(text: &str) -> Result<CsvReader<&[u8]>, CsvError> {
    CsvReader::new(text.as_bytes(), Path::new("dir/pump 7.csv"), &CsvOptions::default())
}

fn readings(text: &str) -> Vec<(String, i64, Value)> {
    let read = reader(text).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
    read.into_iter().map(|r| (r.channel.to_string(), r.at.0 / 1_000_000, r.value)).collect()
}

fn error(text: &str) -> String {
    match reader(text).map(|mut reader| reader.next_row(&mut Vec::new())) {
        Err(error) | Ok(Err(error)) => error.to_string(),
        Ok(Ok(row)) => panic!("{text:?} was taken: {row:?}"),
    }
}

#[test]
fn a_column_called_value_is_named_after_the_file() {
    assert_eq!(readings("timestamp,value\n1970-01-01 00:00:01,20.5\n"), [("pump_7".into(), 1, Ok(20.5))]);
}

#[test]
fn a_header_may_carry_units_and_assets() {
    let reader = reader("time,pump1.bearing_temp [K],note\n5,300,text\n").unwrap();
    let infos: Vec<_> =
        reader.infos().iter().map(|i| (i.id.as_str(), i.unit.0.as_str(), i.asset.as_deref())).collect();
    assert_eq!(infos, [("pump1.bearing_temp", "K", Some("pump1"))]);
}

#[test]
fn a_prefix_is_put_before_every_channel() {
    let options = CsvOptions { channel_prefix: "plant2.".into() };
    let reader = CsvReader::new(&b"ts;a;b\n1;2;3\n"[..], Path::new("x.csv"), &options).unwrap();
    let names: Vec<_> = reader.infos().iter().map(|i| i.id.as_str()).collect();
    assert_eq!(names, ["plant2.a", "plant2.b"]);
}

#[test]
fn the_time_column_is_found_by_its_look_where_no_name_tells() {
    let text = "n,when,x\r\n3,2014-04-01T00:00:00Z,1\r\n4,2014-04-01T00:00:01Z,2\r\n";
    let read = readings(text);
    assert_eq!(read[1], ("x".into(), 1_396_310_400, Ok(1.0)));
    assert_eq!(read.len(), 4);
}

#[test]
fn an_absent_value_keeps_its_reason() {
    let values: Vec<_> =
        readings("ts,x\n1,7\n2,\n3,NaN\n4,-inf\n5,oops\n").into_iter().map(|r| r.2).collect();
    let expected =
        [Ok(7.0), Err(NoData::Null), Err(NoData::NotANumber), Err(NoData::Infinite), Err(NoData::NotANumber)];
    assert_eq!(values, expected);
}

#[test]
fn bad_rows_are_counted_and_named_by_their_line() {
    let long = "9".repeat(limits::LINE_BYTES_MAX + 5);
    let text = format!("ts,x\n1,7\n2\n3,1,1\nsoon,4\n\n{long}\n7,\"8\n9,oops\n10,11\n");
    let mut reader = reader(&text).unwrap();
    let (mut out, mut bad) = (Vec::new(), Vec::new());
    while reader.next_row(&mut out).unwrap().is_some() {
        bad.extend(reader.take_bad_row().map(|b| (b.line, b.reason)));
    }
    assert_eq!((reader.malformed(), out.len()), (6, 3));
    assert_eq!(bad, [(9, "\"oops\" is no number".into())], "the latest before each usable row");
    assert_eq!(reader.progress().0, text.len() as u64);
}

#[test]
fn every_hopeless_file_gets_a_clear_answer() {
    assert!(error("").contains("is empty"));
    assert!(error("\n\n").contains("is empty"));
    assert!(error("ts,x\n").contains("none of 0 rows"));
    assert!(error("2014-04-01 00:00:00,20.0\n2014-04-01 00:05:00,20.0\n").contains(":1: it holds data"));
    assert!(error("a,b\n1,2\n").contains("no time column among `a,b`"));
    assert!(error("ts,x\n1,text\n").contains("no column of numbers beside the time column \"ts\""));
    assert!(error("ts,x,x\n1,2,3\n").contains("two columns are called x"));
    assert!(
        error("ts,x\nsoon,1\nlater,2\n").contains("none of 2 rows could be used; the last one: line 3: time")
    );
    assert!(error("ts,\"x\n1,2\n").contains("a quote is not closed"));
}

#[test]
fn a_missing_file_is_named_in_the_error() {
    let error = CsvReader::open(Path::new("/nowhere/x.csv"), &CsvOptions::default()).err().unwrap();
    assert!(error.to_string().contains("cannot read /nowhere/x.csv"));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(head in prop_oneof!["ts,[a-c,\"\\[\\]]{0,6}\n", "\\PC{0,12}\n"], body in prop::collection::vec(any::<u8>(), 0..80)) {
        let mut bytes = head.into_bytes();
        bytes.extend(body);
        if let Ok(mut reader) = CsvReader::new(&bytes[..], Path::new("x.csv"), &CsvOptions::default()) {
            let mut out = Vec::new();
            while let Ok(Some(_)) = reader.next_row(&mut out) {}
            prop_assert_eq!(reader.progress().0, bytes.len() as u64);
        }
    }
}
