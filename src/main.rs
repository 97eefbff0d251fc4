//! The `outpost` program.

// With musl's a small language model takes up to twice as long to read a prompt, and three times to write with two threads.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    outpost::cli::main()
}
