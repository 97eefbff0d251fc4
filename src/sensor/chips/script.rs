//! A bus that follows a script: for the self-test of a build, where no test crate is at hand.

use std::collections::VecDeque;

use embedded_hal::i2c::{ErrorKind, ErrorType, I2c, NoAcknowledgeSource, Operation};

/// One expected operation, with its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    address: u8,
    reads: bool,
    bytes: Vec<u8>,
}

impl Step {
    /// `bytes` are written to `address`.
    pub fn write(address: u8, bytes: &[u8]) -> Self {
        Self { address, reads: false, bytes: bytes.to_vec() }
    }

    /// `bytes` are read from `address`.
    pub fn read(address: u8, bytes: &[u8]) -> Self {
        Self { address, reads: true, bytes: bytes.to_vec() }
    }
}

/// The bus. Whoever departs from the script is not acknowledged.
#[derive(Debug, Clone)]
pub struct Script(VecDeque<Step>);

impl Script {
    /// A bus that expects these steps in this order.
    pub fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        Self(steps.into_iter().collect())
    }

    fn step(&mut self, address: u8, operation: &mut Operation<'_>) -> Option<()> {
        let step = self.0.pop_front().filter(|step| step.address == address)?;
        match operation {
            Operation::Write(bytes) => (!step.reads && *bytes == step.bytes).then_some(()),
            Operation::Read(buffer) => {
                let fits = step.reads && buffer.len() == step.bytes.len();
                fits.then(|| buffer.copy_from_slice(&step.bytes))
            }
        }
    }
}

impl ErrorType for Script {
    type Error = ErrorKind;
}

impl I2c for Script {
    fn transaction(&mut self, address: u8, operations: &mut [Operation<'_>]) -> Result<(), ErrorKind> {
        for operation in operations {
            let refused = ErrorKind::NoAcknowledge(NoAcknowledgeSource::Unknown);
            self.step(address, operation).ok_or(refused)?;
        }
        Ok(())
    }
}
