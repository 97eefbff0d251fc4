//! A chip's way to its bus: shared with its neighbours, and closed once the chip's time is over.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use embedded_hal::delay::DelayNs;
use embedded_hal::i2c::{self, Error as _, I2c};
use embedded_hal::spi::{self, Error as _, SpiDevice};

use crate::time::Mono;

/// When the read under way must be over.
#[derive(Clone)]
pub(super) struct Deadline {
    until: Rc<Cell<Mono>>,
    now: Rc<dyn Fn() -> Mono>,
}

impl Deadline {
    /// Over already, by the clock `now`.
    pub(super) fn new(now: Rc<dyn Fn() -> Mono>) -> Self {
        Self { until: Rc::default(), now }
    }

    pub(super) fn set(&self, until: Mono) {
        self.until.set(until);
    }

    pub(super) fn is_over(&self) -> bool {
        self.left().is_zero()
    }

    fn left(&self) -> Duration {
        self.until.get().since((self.now)())
    }
}

/// Sleeps for as long as a chip asks for, at most until the deadline.
pub(super) struct Patience {
    deadline: Deadline,
    sleep: Box<dyn FnMut(Duration)>,
}

impl Patience {
    pub(super) fn new(deadline: Deadline, sleep: Box<dyn FnMut(Duration)>) -> Self {
        Self { deadline, sleep }
    }
}

impl DelayNs for Patience {
    fn delay_ns(&mut self, ns: u32) {
        (self.sleep)(Duration::from_nanos(ns.into()).min(self.deadline.left()));
    }
}

/// The bus as one chip sees it.
pub(super) struct Port<B> {
    bus: Rc<RefCell<B>>,
    deadline: Deadline,
}

impl<B> Port<B> {
    pub(super) fn new(bus: B, deadline: Deadline) -> Self {
        Self { bus: Rc::new(RefCell::new(bus)), deadline }
    }
}

impl<B> Clone for Port<B> {
    fn clone(&self) -> Self {
        Self { bus: Rc::clone(&self.bus), deadline: self.deadline.clone() }
    }
}

impl<B: I2c> i2c::ErrorType for Port<B> {
    type Error = i2c::ErrorKind;
}

impl<B: I2c> I2c for Port<B> {
    fn transaction(
        &mut self,
        address: u8,
        operations: &mut [i2c::Operation<'_>],
    ) -> Result<(), i2c::ErrorKind> {
        if self.deadline.is_over() {
            return Err(i2c::ErrorKind::Other);
        }
        self.bus.borrow_mut().transaction(address, operations).map_err(|error| error.kind())
    }
}

impl<B: SpiDevice> spi::ErrorType for Port<B> {
    type Error = spi::ErrorKind;
}

impl<B: SpiDevice> SpiDevice for Port<B> {
    fn transaction(&mut self, operations: &mut [spi::Operation<'_, u8>]) -> Result<(), spi::ErrorKind> {
        if self.deadline.is_over() {
            return Err(spi::ErrorKind::Other);
        }
        self.bus.borrow_mut().transaction(operations).map_err(|error| error.kind())
    }
}
