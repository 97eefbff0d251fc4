//! Pieces of work shared by a few threads, their results collected by the caller as they come.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

/// Does every item of `work` on `threads` threads, each with a state of its own, and calls `each` with every result on this
/// thread. The first error of either ends it: the others finish what they have in hand.
pub(super) fn run<W: Copy + Sync, S: Default, R: Send, E: Send>(
    work: &[W],
    threads: usize,
    one: impl Fn(W, &mut S) -> Result<R, E> + Sync,
    mut each: impl FnMut(W, R) -> Result<(), E>,
) -> Result<(), E> {
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let (tell, told) = mpsc::sync_channel(2 * threads.max(1));
        for _ in 0..threads.clamp(1, work.len().max(1)) {
            let (tell, next, stop, one) = (tell.clone(), &next, &stop, &one);
            scope.spawn(move || {
                let mut state = S::default();
                while let Some((n, &item)) = turn(next, work).filter(|_| !stop.load(Ordering::Relaxed)) {
                    if tell.send((n, one(item, &mut state))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(tell);
        for (n, result) in told {
            if let Err(error) = result.and_then(|result| each(work[n], result)) {
                stop.store(true, Ordering::Relaxed);
                return Err(error);
            }
        }
        Ok(())
    })
}

fn turn<'a, W>(next: &AtomicUsize, work: &'a [W]) -> Option<(usize, &'a W)> {
    let n = next.fetch_add(1, Ordering::Relaxed);
    work.get(n).map(|item| (n, item))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_item_is_done_once_and_the_first_error_ends_it() {
        let work: Vec<usize> = (0..500).collect();
        let mut seen = vec![0; 500];
        let double = |n: usize, count: &mut usize| {
            *count += 1;
            Ok::<_, String>(2 * n)
        };
        run(&work, 3, double, |n, twice| {
            assert_eq!(twice, 2 * n);
            seen[n] += 1;
            Ok(())
        })
        .unwrap();
        assert!(seen.iter().all(|n| *n == 1));
        // What comes after the error takes its time, so that the error is heard of however busy the machine is.
        let failing = |n: usize, (): &mut ()| match n {
            20 => Err("twenty"),
            _ => {
                thread::sleep(Duration::from_millis(if n < 20 { 0 } else { 2 }));
                Ok(n)
            }
        };
        let mut after = 0;
        let result = run(&work, 3, failing, |_, _| {
            after += 1;
            Ok(())
        });
        assert_eq!(result, Err("twenty"));
        assert!(after < 400, "{after} results after the error");
        let odd = run(&work, 2, |n, (): &mut ()| Ok(n), |n, _| if n > 3 { Err(n) } else { Ok(()) });
        assert!(odd.is_err(), "the caller's own error ends it too");
        run(&[], 2, |n: usize, (): &mut ()| Ok::<_, ()>(n), |_, _| Ok(())).unwrap();
    }
}
