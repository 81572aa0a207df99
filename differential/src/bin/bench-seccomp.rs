//! What Docker's default profile costs as procrt's filter and as libseccomp's, in one run: `bench-seccomp [PROFILE]`.

use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};

use libseccomp::ScmpArch;
use oci_spec::runtime::LinuxSeccomp;
use procrt::error::Faults;
use procrt::seccomp::{self, Machine};
use procrt_differential::interpreter::{Call, run};
use procrt_differential::peer::{self, Made};
use seccompiler::sock_filter;

const DOCKER: &str = include_str!("../../../tests/configs/docker-default.json");
const ROUNDS: usize = 300;
const CALLS: u32 = 2_000_000;
const LOOPS: usize = 9;

/// How often calls are made, in a thousand, by a program that serves requests, and one that starts others now and then.
/// The arguments are those that a filter looks at.
const MIX: [(&str, u32, [u64; 2]); 34] = [
    ("futex", 150, [0, 0]),
    ("epoll_wait", 90, [5, 0]),
    ("read", 110, [5, 0]),
    ("write", 90, [5, 0]),
    ("recvfrom", 60, [7, 0]),
    ("sendto", 60, [7, 0]),
    ("close", 50, [7, 0]),
    ("openat", 40, [0xffff_ff9c, 0]),
    ("newfstatat", 40, [0xffff_ff9c, 0]),
    ("fstat", 20, [7, 0]),
    ("mmap", 30, [0, 0]),
    ("munmap", 20, [0, 0]),
    ("mprotect", 20, [0, 0]),
    ("madvise", 15, [0, 0]),
    ("brk", 10, [0, 0]),
    ("rt_sigaction", 20, [13, 0]),
    ("rt_sigprocmask", 20, [0, 0]),
    ("accept4", 15, [5, 0]),
    ("epoll_ctl", 20, [5, 1]),
    ("ioctl", 10, [1, 0x5401]),
    ("fcntl", 15, [3, 3]),
    ("getpid", 10, [0, 0]),
    ("clock_nanosleep", 10, [0, 0]),
    ("poll", 10, [0, 0]),
    ("lseek", 10, [3, 0]),
    ("pread64", 10, [3, 0]),
    ("getdents64", 5, [3, 0]),
    ("access", 5, [0, 0]),
    ("clone", 4, [0x003d_0f00, 0]),
    ("execve", 1, [0, 0]),
    ("wait4", 5, [0, 0]),
    ("exit_group", 1, [0, 0]),
    ("getrandom", 4, [0, 16]),
    ("prctl", 20, [15, 0]),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [command, name, path] = &arguments[..]
        && ["getppid", "personality"].contains(&command.as_str())
    {
        return under(command, name, &profile(path));
    }
    let path = arguments.first().map_or("", String::as_str);
    let profile = profile(path);
    let programs =
        [("procrt", ours(&profile)), ("libseccomp", theirs(&profile, false)), ("its tree", theirs(&profile, true))];
    let times = compile_times(&profile);
    let costs = loop_times("getppid", path);
    let asked = loop_times("personality", path);
    println!(
        "{:<12}{:>14}{:>14}{:>16}{:>16}{:>16}",
        "", "compile", "instructions", "executed", "getppid", "personality"
    );
    println!("{:<12}{:>14}{:>14}{:>16}{:>16}{:>16}", "", "median", "", "mean, mix", "median", "median");
    for (at, (name, program)) in programs.iter().enumerate() {
        let time = format!("{:.1} µs", times[at].as_secs_f64() * 1e6);
        let executed = format!("{:.1}", mean_steps(program));
        let cost = format!("{:.1} ns", costs[at + 1]);
        let asked = format!("{:.1} ns", asked[at + 1]);
        println!("{name:<12}{time:>14}{:>14}{executed:>16}{cost:>16}{asked:>16}", program.len());
    }
    let (cost, asked) = (format!("{:.1} ns", costs[0]), format!("{:.1} ns", asked[0]));
    println!("{:<12}{cost:>60}{asked:>16}", "no filter");
    println!(
        "The kernel remembers calls that a filter allows whatever their arguments are, as getppid, and asks it no more."
    );
    let ratio = times[1].as_secs_f64() / times[0].as_secs_f64();
    let steps = mean_steps(&programs[1].1) / mean_steps(&programs[0].1);
    println!(
        "libseccomp takes {ratio:.1} times as long to compile; its program executes {steps:.1} times the instructions"
    );
    assert!(ratio >= 10.0, "more than a tenth of libseccomp's time");
    assert!(steps >= 2.0, "more than half of the instructions of libseccomp's program");
    assert!(programs[0].1.len() <= programs[1].1.len(), "longer than libseccomp's program");
}

fn profile(path: &str) -> LinuxSeccomp {
    let text = if path.is_empty() { DOCKER.to_owned() } else { std::fs::read_to_string(path).unwrap() };
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    serde_json::from_value(value.pointer("/linux/seccomp").unwrap_or(&value).clone()).unwrap()
}

fn ours(profile: &LinuxSeccomp) -> Vec<sock_filter> {
    let mut faults = Faults::default();
    let plan = seccomp::plan_for(&Machine::X86_64, profile, true, &mut faults);
    faults.into_result().unwrap();
    plan.program
}

fn theirs(profile: &LinuxSeccomp, tree: bool) -> Vec<sock_filter> {
    match peer::compile(profile, ScmpArch::X8664, tree) {
        Made::Program(program) => program,
        other => panic!("{other:?}"),
    }
}

/// From the profile in memory to the program in memory, medians: procrt's, libseccomp's, and that with its tree. The three
/// take turns.
fn compile_times(profile: &LinuxSeccomp) -> [Duration; 3] {
    let null = std::fs::File::options().write(true).open("/dev/null").unwrap();
    let peer = |tree| {
        let context = peer::context(black_box(profile), ScmpArch::X8664, tree).unwrap();
        context.export_bpf(&null).unwrap();
    };
    let mut times: [Vec<Duration>; 3] = Default::default();
    for _ in 0..ROUNDS {
        let timed = |act: &dyn Fn()| {
            let start = Instant::now();
            act();
            start.elapsed()
        };
        times[0].push(timed(&|| drop(black_box(ours(black_box(profile))))));
        times[1].push(timed(&|| peer(false)));
        times[2].push(timed(&|| peer(true)));
    }
    times.map(|mut times| {
        times.sort_unstable();
        times[ROUNDS / 2]
    })
}

/// How many instructions a call of the mix executes, on average.
fn mean_steps(program: &[sock_filter]) -> f64 {
    let (mut steps, mut calls) = (0, 0);
    for (name, times, [first, second]) in MIX {
        let number = peer::number(name, ScmpArch::X8664).unwrap();
        let call = Call { number, arch: 0xc000_003e, arguments: [first, second, 0, 0, 0, 0] };
        let (answer, executed) = run(program, &call);
        assert_eq!(answer, libc::SECCOMP_RET_ALLOW, "{name}");
        steps += executed * times as usize;
        calls += times as usize;
    }
    steps as f64 / calls as f64
}

/// Nanoseconds that a `call` takes without a filter and under each, medians of processes that take turns.
fn loop_times(call: &str, path: &str) -> [f64; 4] {
    let mut times: [Vec<f64>; 4] = Default::default();
    for _ in 0..LOOPS {
        for (name, times) in ["none", "ours", "theirs", "tree"].into_iter().zip(&mut times) {
            let output = Command::new(std::env::current_exe().unwrap()).args([call, name, path]).output().unwrap();
            times.push(String::from_utf8(output.stdout).unwrap().trim().parse().unwrap());
        }
    }
    times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[LOOPS / 2]
    })
}

/// This process under a filter: prints the nanoseconds of one call.
fn under(call: &str, name: &str, profile: &LinuxSeccomp) {
    let program = match name {
        "ours" => Some(ours(profile)),
        "theirs" => Some(theirs(profile, false)),
        "tree" => Some(theirs(profile, true)),
        _ => None,
    };
    if let Some(program) = program {
        nix::sys::prctl::set_no_new_privs().unwrap();
        procrt::sys::seccomp::set_filter(&program, 0).unwrap();
    }
    let start = Instant::now();
    for _ in 0..CALLS {
        if call == "getppid" {
            black_box(nix::unistd::getppid());
        } else {
            black_box(nix::sys::personality::get()).unwrap();
        }
    }
    println!("{}", start.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS));
}
