//! Our layouts beside a C compiler's, for the word size this was built for.

use std::collections::BTreeMap;
use std::process::Command;

/// Shared memory and SOCK as the programs that write them declare them, and the kernel's own headers.
const DECLARATIONS: &str = r#"
#include <stddef.h>
#include <stdio.h>
#include <sys/time.h>
#include <time.h>
#include <linux/pps.h>
#include <linux/ptp_clock.h>
#include <linux/ethtool.h>
#include <linux/if.h>
#include <linux/net_tstamp.h>
#include <linux/sockios.h>
struct shm {
    int mode; volatile int count;
    time_t clock_seconds; int clock_micros;
    time_t receive_seconds; int receive_micros;
    int leap, precision, nsamples; volatile int valid;
    unsigned clock_nanos, receive_nanos;
    int dummy[8];
};
struct sock { struct timeval tv; double offset; int pulse, leap, pad, magic; };
"#;

/// What a C compiler says of these expressions; `None`, said aloud, where there is none.
pub(crate) fn by_the_compiler(expressions: &[&str]) -> Option<BTreeMap<String, usize>> {
    let folder = tempfile::tempdir().unwrap();
    let (source, program) = (folder.path().join("abi.c"), folder.path().join("abi"));
    let prints: String =
        expressions.iter().map(|e| format!("printf(\"%s=%zu\\n\", \"{e}\", (size_t)({e}));\n")).collect();
    std::fs::write(&source, format!("{DECLARATIONS}int main(void) {{\n{prints}return 0; }}\n")).unwrap();
    let word = if cfg!(target_arch = "x86") { &["-m32"][..] } else { &[] };
    let built = Command::new("cc").args(word).arg("-o").arg(&program).arg(&source).output();
    if !built.as_ref().is_ok_and(|output| output.status.success()) {
        assert!(std::env::var_os("REFCLOCKD_CI").is_none(), "no C compiler: {built:?}");
        println!("skipped: no C compiler for this word size");
        return None;
    }
    let said = Command::new(&program).output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    Some(said.lines().filter_map(|line| line.rsplit_once('=')).map(|(e, n)| (e.into(), n.parse().unwrap())).collect())
}

/// Compares, each by its expression in C.
pub(crate) fn compare(ours: &[(&str, usize)]) {
    let expressions: Vec<&str> = ours.iter().map(|(e, _)| *e).collect();
    if let Some(theirs) = by_the_compiler(&expressions) {
        for (expression, ours) in ours {
            assert_eq!(theirs.get(*expression), Some(ours), "{expression}");
        }
    }
}

#[test]
fn sock_datagrams_have_the_compilers_size() {
    let size = crate::sock::size(crate::sock::OWN_TIME);
    compare(&[("sizeof(struct sock)", size), ("offsetof(struct sock, magic)", size - 4)]);
}
