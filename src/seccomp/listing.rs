//! A program for people and for other programs.

use std::fmt::Write as _;

use seccompiler::sock_filter;

use super::words;

const CLASS: u16 = 0x07;

/// The program in the language of the kernel's bpf_asm (`tools/bpf`), an instruction a line, with a label where a jump leads
/// to and a comment where it helps.
pub fn assembly(program: &[sock_filter]) -> String {
    let mut targets = vec![false; program.len() + 1];
    for (at, instruction) in program.iter().enumerate() {
        for to in jumps(at, instruction) {
            if let Some(target) = targets.get_mut(to) {
                *target = true;
            }
        }
    }
    let mut text = String::new();
    for (at, instruction) in program.iter().enumerate() {
        let label = if targets[at] { format!("l{at}:") } else { String::new() };
        let (what, comment) = in_words(at, instruction);
        let comment = if comment.is_empty() { comment } else { format!("; {comment}") };
        let line = format!("{label:<7}{what:<36}{comment}");
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

fn jumps(at: usize, instruction: &sock_filter) -> Vec<usize> {
    match (u32::from(instruction.code & CLASS), instruction.code) {
        (libc::BPF_JMP, 0x05) => vec![at + 1 + instruction.k as usize],
        (libc::BPF_JMP, _) => {
            [instruction.jt, instruction.jf].iter().filter(|to| **to > 0).map(|to| at + 1 + usize::from(*to)).collect()
        }
        _ => Vec::new(),
    }
}

/// An instruction, and what there is to say about it.
fn in_words(at: usize, instruction: &sock_filter) -> (String, String) {
    let &sock_filter { code, jt, jf, k } = instruction;
    let branch = |yes: &str, no: &str| {
        let to = |distance: u8| format!("l{}", at + 1 + usize::from(distance));
        match (jt, jf) {
            (0, 0) => format!("{yes} #{k:#x}, {}, {}", to(0), to(0)),
            (0, jf) => format!("{no} #{k:#x}, {}", to(jf)),
            (jt, 0) => format!("{yes} #{k:#x}, {}", to(jt)),
            (jt, jf) => format!("{yes} #{k:#x}, {}, {}", to(jt), to(jf)),
        }
    };
    match code {
        0x20 => (format!("ld [{k}]"), field(k)),
        0x54 => (format!("and #{k:#x}"), String::new()),
        0x06 => (format!("ret #{k:#x}"), words(k)),
        0x05 => (format!("ja l{}", at + 1 + k as usize), String::new()),
        0x15 => (branch("jeq", "jne"), String::new()),
        0x25 => (branch("jgt", "jle"), String::new()),
        0x35 => (branch("jge", "jlt"), String::new()),
        _ => (format!("; code {code:#x} jt {jt} jf {jf} k {k:#x}"), String::new()),
    }
}

/// The part of `struct seccomp_data` that is at `offset`.
fn field(offset: u32) -> String {
    match offset {
        0 => "number".to_owned(),
        4 => "architecture".to_owned(),
        _ => {
            let half = if offset.is_multiple_of(8) == cfg!(target_endian = "little") { "lower" } else { "upper" };
            format!("argument {}, {half} half", offset.saturating_sub(16) / 8)
        }
    }
}

/// The program as the kernel takes it, eight bytes an instruction in the machine's byte order.
pub fn raw(program: &[sock_filter]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(program.len() * 8);
    for instruction in program {
        bytes.extend(instruction.code.to_ne_bytes());
        bytes.extend([instruction.jt, instruction.jf]);
        bytes.extend(instruction.k.to_ne_bytes());
    }
    bytes
}

/// The program as a definition in C.
pub fn c(program: &[sock_filter]) -> String {
    let mut text = String::from("#include <linux/filter.h>\n\nstatic struct sock_filter filter[] = {\n");
    for sock_filter { code, jt, jf, k } in program {
        let _ = writeln!(text, "    {{ 0x{code:02x}, {jt}, {jf}, 0x{k:08x} }},");
    }
    text + "};\n\nstatic struct sock_fprog program = { sizeof filter / sizeof *filter, filter };\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_can_be_read() {
        let program = [
            sock_filter { code: 0x20, jt: 0, jf: 0, k: 4 },
            sock_filter { code: 0x15, jt: 0, jf: 3, k: 0xc000_003e },
            sock_filter { code: 0x20, jt: 0, jf: 0, k: 20 },
            sock_filter { code: 0x54, jt: 0, jf: 0, k: 0xff },
            sock_filter { code: 0x35, jt: 1, jf: 0, k: 7 },
            sock_filter { code: 0x06, jt: 0, jf: 0, k: 0x7fff_0000 },
            sock_filter { code: 0x06, jt: 0, jf: 0, k: 0x0005_0001 },
        ];
        let expected = "       ld [4]                              ; architecture
       jne #0xc000003e, l5
       ld [20]                             ; argument 0, upper half
       and #0xff
       jge #0x7, l6
l5:    ret #0x7fff0000                     ; allow
l6:    ret #0x50001                        ; fail with EPERM
";
        assert_eq!(assembly(&program), expected);
        assert_eq!(raw(&program)[8..16], [0x15, 0, 0, 3, 0x3e, 0, 0, 0xc0]);
        assert!(c(&program).contains("    { 0x35, 1, 0, 0x00000007 },\n"));
    }
}
