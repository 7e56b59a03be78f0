//! System V shared memory of NTP units: attached, copied word by word.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{Ordering, fence};

use crate::device::shm_key;
use crate::shm::Segment;

/// The segment as C lays it out on this machine.
#[repr(C)]
struct ShmTime {
    mode: i32,
    count: i32,
    clock_seconds: libc::time_t,
    clock_micros: i32,
    receive_seconds: libc::time_t,
    receive_micros: i32,
    leap: i32,
    precision: i32,
    nsamples: i32,
    valid: i32,
    clock_nanos: u32,
    receive_nanos: u32,
    dummy: [i32; 8],
}

/// Bytes of a segment on this machine.
pub const SIZE: usize = size_of::<ShmTime>();

#[cfg(target_pointer_width = "64")]
const _: () = assert!(SIZE == 96);
#[cfg(all(target_pointer_width = "32", not(target_env = "musl")))]
const _: () = assert!(SIZE == 80);

/// Who may write a segment, and how large it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its identifier: changes when it is made anew.
    pub id: i32,
    /// Its owner.
    pub uid: u32,
    /// Its permission bits.
    pub mode: u32,
    /// Its size, bytes.
    pub size: usize,
}

/// An attached segment.
#[derive(Debug)]
pub struct ShmSegment {
    memory: NonNull<ShmTime>,
    facts: Facts,
}

/// Finds a unit's segment, making it if nobody has. Every reader and writer of these segments does:
/// whoever comes first makes it. Units 0 and 1 are for their owner only, as everywhere.
pub fn find(unit: u8) -> io::Result<Facts> {
    let mode = if unit < 2 { 0o600 } else { 0o666 };
    // SAFETY: plain numbers in, a number out.
    let mut id = unsafe { libc::shmget(shm_key(unit), SIZE, mode | libc::IPC_CREAT) };
    if id < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL) {
        // It is there and smaller than ours: another word size. Find it to say so.
        // SAFETY: as above.
        id = unsafe { libc::shmget(shm_key(unit), 0, 0) };
    }
    if id < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: an all-zero `shmid_ds` is valid, and the call fills it.
    let mut status: libc::shmid_ds = unsafe { std::mem::zeroed() };
    // SAFETY: `status` is a valid `shmid_ds` for the kernel to fill.
    if unsafe { libc::shmctl(id, libc::IPC_STAT, &raw mut status) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Facts { id, uid: status.shm_perm.uid, mode: u32::from(status.shm_perm.mode) & 0o777, size: status.shm_segsz })
}

/// The user we are.
pub fn own_uid() -> u32 {
    // SAFETY: takes nothing, cannot fail.
    unsafe { libc::geteuid() }
}

impl ShmSegment {
    /// Attaches a segment of the right size.
    pub fn attach(facts: Facts) -> io::Result<Self> {
        if facts.size < SIZE {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        // SAFETY: the kernel chooses the address; the segment is at least as large as `ShmTime`.
        let memory = unsafe { libc::shmat(facts.id, std::ptr::null(), 0) };
        if memory as isize == -1 {
            return Err(io::Error::last_os_error());
        }
        let memory = NonNull::new(memory.cast()).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        Ok(Self { memory, facts })
    }

    /// What was found when it was attached.
    pub fn facts(&self) -> Facts {
        self.facts
    }

    #[allow(clippy::unnecessary_cast, reason = "time_t has 32 bits on some targets")]
    /// A copy of its fields, and the count after the copy was made.
    pub fn copy(&self) -> (Segment, i32) {
        let p = self.memory.as_ptr();
        // SAFETY: the segment is attached, aligned to a page and large enough for as long as `self`
        // lives. Another process writes it at will, so each word is read by itself, volatile, and
        // judged only after it was copied.
        unsafe {
            let valid = (&raw const (*p).valid).read_volatile();
            let count = (&raw const (*p).count).read_volatile();
            fence(Ordering::Acquire);
            let copy = Segment {
                mode: (&raw const (*p).mode).read_volatile(),
                count,
                clock: (
                    (&raw const (*p).clock_seconds).read_volatile() as i64,
                    (&raw const (*p).clock_micros).read_volatile(),
                    (&raw const (*p).clock_nanos).read_volatile(),
                ),
                receive: (
                    (&raw const (*p).receive_seconds).read_volatile() as i64,
                    (&raw const (*p).receive_micros).read_volatile(),
                    (&raw const (*p).receive_nanos).read_volatile(),
                ),
                leap: (&raw const (*p).leap).read_volatile(),
                precision: (&raw const (*p).precision).read_volatile(),
                valid,
            };
            fence(Ordering::Acquire);
            (copy, (&raw const (*p).count).read_volatile())
        }
    }

    /// Tells the writer that its sample was taken.
    pub fn clear_valid(&self) {
        // SAFETY: as in `copy`.
        unsafe { (&raw mut (*self.memory.as_ptr()).valid).write_volatile(0) };
    }

    /// Writes a sample as a producer in mode 1 does. For tests, and for feeding another daemon.
    pub fn publish(&self, clock: (i64, u32), receive: (i64, u32), leap: i32, precision: i32) {
        let p = self.memory.as_ptr();
        // SAFETY: as in `copy`; readers judge the count and `valid`, which frame the fields.
        unsafe {
            let count = (&raw const (*p).count).read_volatile();
            (&raw mut (*p).valid).write_volatile(0);
            (&raw mut (*p).mode).write_volatile(1);
            (&raw mut (*p).count).write_volatile(count.wrapping_add(1));
            fence(Ordering::Release);
            (&raw mut (*p).clock_seconds).write_volatile(clock.0 as libc::time_t);
            (&raw mut (*p).clock_micros).write_volatile((clock.1 / 1000) as i32);
            (&raw mut (*p).clock_nanos).write_volatile(clock.1);
            (&raw mut (*p).receive_seconds).write_volatile(receive.0 as libc::time_t);
            (&raw mut (*p).receive_micros).write_volatile((receive.1 / 1000) as i32);
            (&raw mut (*p).receive_nanos).write_volatile(receive.1);
            (&raw mut (*p).leap).write_volatile(leap);
            (&raw mut (*p).precision).write_volatile(precision);
            fence(Ordering::Release);
            (&raw mut (*p).count).write_volatile(count.wrapping_add(2));
            (&raw mut (*p).valid).write_volatile(1);
        }
    }
}

impl Drop for ShmSegment {
    fn drop(&mut self) {
        // SAFETY: attached by `attach`, detached once, here.
        unsafe { libc::shmdt(self.memory.as_ptr().cast()) };
    }
}
