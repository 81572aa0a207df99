//! Classic BPF as the kernel's seccomp runs it, with the checks that the kernel makes before.

use seccompiler::sock_filter;

/// A call as a filter sees it: `struct seccomp_data`.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    pub number: u32,
    pub arch: u32,
    pub arguments: [u64; 6],
}

/// The program's answer to a call, and how many instructions that took.
pub fn run(program: &[sock_filter], call: &Call) -> (u32, usize) {
    assert!((1..=4096).contains(&program.len()), "{} instructions", program.len());
    let word = |offset: u32| match offset {
        0 => call.number,
        4 => call.arch,
        16..64 if offset.is_multiple_of(4) => {
            let argument = call.arguments[(offset as usize - 16) / 8];
            if offset.is_multiple_of(8) { argument as u32 } else { (argument >> 32) as u32 }
        }
        _ => panic!("load at {offset}"),
    };
    let (mut accumulator, mut at, mut steps) = (0, 0, 0);
    loop {
        let &sock_filter { code, jt, jf, k } = &program[at];
        at += 1;
        steps += 1;
        let mut branch = |yes: bool| at += usize::from(if yes { jt } else { jf });
        match code {
            0x20 => accumulator = word(k),
            0x54 => accumulator &= k,
            0x06 => return (k, steps),
            0x05 => at += k as usize,
            0x15 => branch(accumulator == k),
            0x25 => branch(accumulator > k),
            0x35 => branch(accumulator >= k),
            _ => panic!("instruction {code:#x}"),
        }
    }
}
