//! What comes from the field: frames of a bus, signal files, syslog, what a log source keeps.

use outpost::field::dbc::Dbc;
use outpost::field::modbus::{Answer, Framing, Request, Table, request, take_answer};
use outpost::sensor::syslog;
use outpost::templates::{Memory, Tally};

use super::{Reader, refused};

/// All of them.
pub const READERS: &[Reader] = &[
    Reader { name: "modbus", read: modbus, seeds: answers },
    Reader { name: "dbc", read: dbc, seeds: signals },
    Reader { name: "syslog", read: message, seeds: messages },
    Reader { name: "templates", read: templates, seeds: memories },
];

const ASK: Request = Request { transaction: 7, unit: 17, table: Table::Holding, first: 107, count: 3 };

/// Bytes from a Modbus device, as an answer over TCP; over a serial line likewise, which is not judged: of spoiled ones
/// the checksum leaves none.
pub fn modbus(bytes: &[u8]) -> bool {
    let read = |framing| {
        let mut heard = bytes.to_vec();
        let answer = take_answer(framing, &ASK, &mut heard);
        assert!(heard.len() <= bytes.len());
        if let Ok(Some(Answer::Values(values))) = &answer {
            assert_eq!(values.len(), usize::from(ASK.count), "as many values as asked for");
        }
        answer
    };
    let _ = read(Framing::Rtu);
    match read(Framing::Tcp) {
        Ok(answer) => answer.is_some(),
        Err(error) => refused(&error),
    }
}

/// A DBC file, and a frame of every message that it may have.
pub fn dbc(bytes: &[u8]) -> bool {
    match Dbc::parse(&String::from_utf8_lossy(bytes)) {
        Ok(dbc) => {
            for id in [500, 2_566_844_926] {
                let frames = [&bytes[..bytes.len().min(8)], &[0xff; 8], &[]];
                let values =
                    dbc.message(id).map(|m| frames.iter().map(|f| m.values(f).count()).sum::<usize>());
                assert!(values.unwrap_or(0) <= 3 * dbc.signals());
            }
            true
        }
        Err(error) => refused(&error),
    }
}

/// A syslog message.
pub fn message(bytes: &[u8]) -> bool {
    match syslog(bytes) {
        Ok(message) => {
            assert!(message.facility < 24 && message.severity < 8);
            true
        }
        Err(error) => refused(&error),
    }
}

/// The templates that a log source keeps, and its own bytes as lines.
pub fn templates(bytes: &[u8]) -> bool {
    let memory: Option<Memory> = serde_json::from_slice(bytes).ok();
    let mut tally = Tally::new(&memory.clone().unwrap_or_default(), 3);
    String::from_utf8_lossy(bytes).split([',', '\n']).for_each(|line| tally.take(line));
    let counts = tally.close();
    assert!(counts.lines >= counts.other && counts.fresh <= counts.lines);
    memory.is_some()
}

fn answers() -> Vec<Vec<u8>> {
    let whole = vec![0, 7, 0, 0, 0, 9, 17, 3, 6, 2, 43, 0, 0, 0, 100];
    vec![
        whole.clone(),
        [&[0, 6, 0, 0, 0, 3, 17, 131, 2], &whole[..]].concat(),
        [request(Framing::Tcp, &ASK), whole].concat(),
    ]
}

fn signals() -> Vec<Vec<u8>> {
    let text = "BO_ 500 Motor: 8 ECU\n SG_ Speed : 0|16@1+ (0.25,0) [0|8000] \"rpm\" X\n SG_ Big : 39|16@0- (1,-4) [0|0] \"\" X\n\n\
                BO_ 2566844926 Mixed: 8 ECU\n SG_ Which M : 0|8@1+ (1,0) [0|0] \"\" X\n SG_ A m0 : 8|8@1+ (1,0) [0|0] \"%\" X\n \
                SG_ F : 32|32@1- (1,0) [0|0] \"V\" X\nSIG_VALTYPE_ 2566844926 F : 1;\n";
    vec![text.as_bytes().to_vec()]
}

fn messages() -> Vec<Vec<u8>> {
    [
        "<165>1 2003-10-11T22:14:15.003Z h evntslog - ID47 [a@1 b=\"x\\\"]y\"][c@2 d=\"1\"] An event",
        "<34>Oct 11 22:14:15 mymachine su[77]: 'su root' failed\n",
        "<34>1 2003-10-11T22:14:15Z host su - - - failed",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

fn memories() -> Vec<Vec<u8>> {
    let mut tally = Tally::new(&Memory::default(), 3);
    for line in ["pump 1 started", "pump 2 started", "user=root from 10.0.0.1", "valve open"] {
        tally.take(line);
    }
    tally.close();
    let memory = tally.memory_if_changed().expect("templates that are new");
    vec![serde_json::to_vec(&memory).expect("numbers and texts are JSON")]
}
