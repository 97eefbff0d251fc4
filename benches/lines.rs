//! Lines per second through the parser, on one core: `cargo bench --bench lines`.

use std::time::Instant;

use outpost::sensor::{LineParser, Precision};
use outpost::time::Wall;

const ROUNDS: u32 = 40;
const LINES: usize = 50_000;

fn main() {
    let time = |n: usize| 1_700_000_000_000 + n as u64;
    measure("json, channel form", |n| {
        format!(r#"{{"channel":"pump{}.temp","value":{}.{},"ts":{}}}"#, n % 50, n % 90, n % 100, time(n))
    });
    measure("json, with unit and long number", |n| {
        format!(
            r#"{{"channel":"pump{}.temp","value":{},"unit":"Cel","ts":{}}}"#,
            n % 50,
            (n as f64).sqrt(),
            time(n)
        )
    });
    measure("json, flat, three channels", |n| {
        format!(r#"{{"ts":{},"pump1.temp":{}.5,"pump1.vib":2.{},"pump1.rpm":{n}}}"#, time(n), n % 90, n % 100)
    });
    measure("json, escapes (serde_json)", |n| {
        format!(r#"{{"channel":"pump{}\u002etemp","value":{}.5,"ts":{}}}"#, n % 50, n % 90, time(n))
    });
    measure("influx, one field", |n| {
        format!("pump,id={} temp={}.{} {}000000", n % 50, n % 90, n % 100, time(n))
    });
    measure("influx, three fields", |n| {
        format!("pump,id={} temp={}.5,vib=2.{},starts={n}i {}000000", n % 50, n % 90, n % 100, time(n))
    });
}

fn measure(name: &str, line: impl Fn(usize) -> String) {
    let lines: Vec<String> = (0..LINES).map(line).collect();
    let mut parser = LineParser::new(Precision::Nanos);
    let mut out = Vec::with_capacity(4 * LINES);
    let mut readings = 0;
    let began = Instant::now();
    for _ in 0..ROUNDS {
        out.clear();
        for line in &lines {
            parser.parse(line.as_bytes(), Wall(0), &mut out).expect("the benchmark's own line");
        }
        readings += out.len();
    }
    let seconds = began.elapsed().as_secs_f64();
    let count = f64::from(ROUNDS) * LINES as f64;
    let bytes = f64::from(ROUNDS) * lines.iter().map(String::len).sum::<usize>() as f64;
    let (million, mega) = (count / seconds / 1e6, bytes / seconds / 1e6);
    println!("{name:<32} {million:6.2} M lines/s  {mega:7.1} MB/s  {readings} readings");
}
