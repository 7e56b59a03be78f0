//! System V shared memory of NTP units: attached, copied word by word.

use std::io;
use std::mem::offset_of;
use std::ptr::NonNull;
use std::sync::atomic::{Ordering, fence};

use crate::device::shm_key;
use crate::shm::Segment;

/// The segment as C lays it out where time has 64 bits.
#[repr(C)]
struct Wide {
    mode: i32,
    count: i32,
    clock_seconds: i64,
    clock_micros: i32,
    padding: i32,
    receive_seconds: i64,
    receive_micros: i32,
    leap: i32,
    precision: i32,
    nsamples: i32,
    valid: i32,
    clock_nanos: u32,
    receive_nanos: u32,
    dummy: [i32; 8],
    padding_after: i32,
}

/// And where it has 32.
#[repr(C)]
struct Narrow {
    mode: i32,
    count: i32,
    clock_seconds: i32,
    clock_micros: i32,
    receive_seconds: i32,
    receive_micros: i32,
    leap: i32,
    precision: i32,
    nsamples: i32,
    valid: i32,
    clock_nanos: u32,
    receive_nanos: u32,
    dummy: [i32; 8],
}

const _: () = assert!(size_of::<Wide>() == 96 && size_of::<Narrow>() == 80);

/// Where the fields of a segment are, bytes from its beginning. A segment's size tells which of the two
/// its writer has: 32-bit systems have either, and a 32-bit program may write for a 64-bit one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    size: usize,
    clock_seconds: usize,
    clock_micros: usize,
    receive_seconds: usize,
    receive_micros: usize,
    leap: usize,
    precision: usize,
    nsamples: usize,
    valid: usize,
    clock_nanos: usize,
    receive_nanos: usize,
}

macro_rules! layout {
    ($segment:ty) => {
        Layout {
            size: size_of::<$segment>(),
            clock_seconds: offset_of!($segment, clock_seconds),
            clock_micros: offset_of!($segment, clock_micros),
            receive_seconds: offset_of!($segment, receive_seconds),
            receive_micros: offset_of!($segment, receive_micros),
            leap: offset_of!($segment, leap),
            precision: offset_of!($segment, precision),
            nsamples: offset_of!($segment, nsamples),
            valid: offset_of!($segment, valid),
            clock_nanos: offset_of!($segment, clock_nanos),
            receive_nanos: offset_of!($segment, receive_nanos),
        }
    };
}

impl Layout {
    /// Of a writer whose time has 64 bits.
    pub const WIDE: Self = layout!(Wide);
    /// Of a writer whose time has 32 bits.
    pub const NARROW: Self = layout!(Narrow);
    /// Of this program, for a segment that nobody has made yet.
    pub const OWN: Self = if size_of::<libc::time_t>() == 8 { Self::WIDE } else { Self::NARROW };

    /// The layout of a segment of this size, if it is one of NTP's.
    pub fn of_size(size: usize) -> Option<Self> {
        [Self::WIDE, Self::NARROW].into_iter().find(|layout| layout.size == size)
    }

    /// Bytes.
    pub fn size(&self) -> usize {
        self.size
    }
}

const MODE: usize = offset_of!(Wide, mode);
const COUNT: usize = offset_of!(Wide, count);

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
    memory: NonNull<u8>,
    layout: Layout,
    facts: Facts,
}

/// Finds a unit's segment, making it if nobody has. Every reader and writer of these segments does:
/// whoever comes first makes it. Units 0 and 1 are for their owner only, as everywhere.
pub fn find(unit: u8) -> io::Result<Facts> {
    let mode = if unit < 2 { 0o600 } else { 0o666 };
    // SAFETY: plain numbers in, a number out.
    let mut id = unsafe { libc::shmget(shm_key(unit), Layout::OWN.size, mode | libc::IPC_CREAT) };
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
    /// Attaches a segment.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it has another size than NTP's have; the system's.
    pub fn attach(facts: Facts) -> io::Result<Self> {
        let Some(layout) = Layout::of_size(facts.size) else {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        };
        // SAFETY: the kernel chooses the address; the segment is as large as its layout.
        let memory = unsafe { libc::shmat(facts.id, std::ptr::null(), 0) };
        if memory as isize == -1 {
            return Err(io::Error::last_os_error());
        }
        let memory = NonNull::new(memory.cast()).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        Ok(Self { memory, layout, facts })
    }

    /// What was found when it was attached.
    pub fn facts(&self) -> Facts {
        self.facts
    }

    /// A copy of its fields, and the count after the copy was made.
    pub fn copy(&self) -> (Segment, i32) {
        let at = &self.layout;
        let valid = self.load(at.valid);
        let count = self.load(COUNT);
        fence(Ordering::Acquire);
        let copy = Segment {
            mode: self.load(MODE),
            count,
            clock: (self.seconds(at.clock_seconds), self.load(at.clock_micros), self.load(at.clock_nanos) as u32),
            receive: (
                self.seconds(at.receive_seconds),
                self.load(at.receive_micros),
                self.load(at.receive_nanos) as u32,
            ),
            leap: self.load(at.leap),
            precision: self.load(at.precision),
            valid,
        };
        fence(Ordering::Acquire);
        (copy, self.load(COUNT))
    }

    /// Tells the writer that its sample was taken.
    pub fn clear_valid(&self) {
        self.store(self.layout.valid, 0);
    }

    /// Writes a sample as a producer in mode 1 does. Its `mode`, `count` and `valid` are what they have to be.
    pub fn publish(&self, sample: &Segment) {
        let at = &self.layout;
        let count = self.load(COUNT);
        self.store(at.valid, 0);
        self.store(MODE, 1);
        self.store(COUNT, count.wrapping_add(1));
        fence(Ordering::Release);
        self.store_seconds(at.clock_seconds, sample.clock.0);
        self.store(at.clock_micros, sample.clock.1);
        self.store(at.clock_nanos, sample.clock.2 as i32);
        self.store_seconds(at.receive_seconds, sample.receive.0);
        self.store(at.receive_micros, sample.receive.1);
        self.store(at.receive_nanos, sample.receive.2 as i32);
        self.store(at.leap, sample.leap);
        self.store(at.precision, sample.precision);
        self.store(at.nsamples, 3);
        fence(Ordering::Release);
        self.store(COUNT, count.wrapping_add(2));
        fence(Ordering::Release);
        self.store(at.valid, 1);
    }

    /// One word. Another process writes it at will: it is read by itself, volatile, and judged only
    /// after it was copied.
    fn load(&self, offset: usize) -> i32 {
        // SAFETY: the segment is attached for as long as `self` lives and aligned to a page; every
        // offset of its layout is that of an aligned word inside it.
        unsafe { self.memory.as_ptr().add(offset).cast::<i32>().read_volatile() }
    }

    fn store(&self, offset: usize, value: i32) {
        // SAFETY: as in `load`; readers judge the count and `valid`, which frame the fields.
        unsafe { self.memory.as_ptr().add(offset).cast::<i32>().write_volatile(value) }
    }

    fn seconds(&self, offset: usize) -> i64 {
        if self.layout == Layout::NARROW {
            return i64::from(self.load(offset));
        }
        // SAFETY: as in `load`: in this layout 8 aligned bytes are there.
        unsafe { self.memory.as_ptr().add(offset).cast::<i64>().read_volatile() }
    }

    /// Where time has 32 bits, seconds wrap in 2038 as all do there.
    fn store_seconds(&self, offset: usize, seconds: i64) {
        if self.layout == Layout::NARROW {
            return self.store(offset, seconds as i32);
        }
        // SAFETY: as in `seconds`.
        unsafe { self.memory.as_ptr().add(offset).cast::<i64>().write_volatile(seconds) }
    }
}

impl Drop for ShmSegment {
    fn drop(&mut self) {
        // SAFETY: attached by `attach`, detached once, here.
        unsafe { libc::shmdt(self.memory.as_ptr().cast()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A segment that nobody else knows of, of a size.
    fn private(size: usize) -> ShmSegment {
        // SAFETY: plain numbers in, a number out.
        let id = unsafe { libc::shmget(libc::IPC_PRIVATE, size, 0o600) };
        assert!(id >= 0, "{}", io::Error::last_os_error());
        let segment = ShmSegment::attach(Facts { id, uid: own_uid(), mode: 0o600, size });
        // It goes when the last process detaches.
        // SAFETY: the identifier is ours; IPC_RMID takes no structure.
        unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) };
        segment.unwrap()
    }

    #[test]
    fn what_is_published_is_read_in_both_layouts() {
        for layout in [Layout::WIDE, Layout::NARROW] {
            let segment = private(layout.size());
            let sample = Segment {
                clock: (1_795_319_391, 0, 7),
                receive: (1_795_319_391, 999_999, 999_999_999),
                leap: 1,
                precision: -20,
                ..Segment::default()
            };
            segment.publish(&sample);
            segment.publish(&sample);
            assert_eq!(segment.copy(), (Segment { mode: 1, count: 4, valid: 1, ..sample }, 4), "{layout:?}");
            segment.clear_valid();
            assert_eq!(segment.copy().0.valid, 0);
        }
    }

    #[test]
    fn the_layout_is_the_compilers() {
        let own = Layout::OWN;
        crate::sys::abi_tests::compare(&[
            ("sizeof(struct shm)", own.size),
            ("offsetof(struct shm, count)", COUNT),
            ("offsetof(struct shm, clock_seconds)", own.clock_seconds),
            ("offsetof(struct shm, clock_micros)", own.clock_micros),
            ("offsetof(struct shm, receive_seconds)", own.receive_seconds),
            ("offsetof(struct shm, receive_micros)", own.receive_micros),
            ("offsetof(struct shm, leap)", own.leap),
            ("offsetof(struct shm, precision)", own.precision),
            ("offsetof(struct shm, nsamples)", own.nsamples),
            ("offsetof(struct shm, valid)", own.valid),
            ("offsetof(struct shm, clock_nanos)", own.clock_nanos),
            ("offsetof(struct shm, receive_nanos)", own.receive_nanos),
        ]);
    }

    #[test]
    fn another_size_is_not_ntps() {
        let facts = Facts { id: 0, uid: 0, mode: 0o600, size: 88 };
        assert_eq!(ShmSegment::attach(facts).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
}
