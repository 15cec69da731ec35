//! Where the kernel begins to run this program: before the C library has been started.
//!
//! What makes containers executes itself anew, from a form of its file that nobody can write to ([`super::executable`]). All that was
//! done before is done twice then, and the start of a C library is not cheap: a static glibc asks the processor what it is, and on a
//! virtual machine the hypervisor answers each such question (CPUID). So the first thing that runs here looks whether the
//! words of the command line want a container, and if so executes a read-only clone with six system calls. Where there is no need
//! of it, or where it fails, the C library's own `_start` follows and finds all as the kernel left it; `run_sealed` looks after it.
//!
//! It is assembly because nothing of the C library may be called yet, not even memcpy(3), whose implementation is chosen when it
//! starts: a compiler makes such calls of its own accord. Only a static x86-64 binary begins here (`build.rs`).

use std::arch::global_asm;

use libc::{
    AT_EMPTY_PATH, AT_FDCWD, MOUNT_ATTR_RDONLY, OPEN_TREE_CLOEXEC, OPEN_TREE_CLONE, SYS_close, SYS_execveat,
    SYS_mount_setattr, SYS_open_tree, SYS_readlink,
};

// On the stack lie the count of the words, a pointer to each, a null pointer, then those to the variables (System V ABI, "Initial
// Process Stack"); rdx belongs to the C library. Signals are not caught yet, so the space below the stack is free to use.
global_asm!(
    ".pushsection .rodata",
    "own_program: .asciz \"/proc/self/exe\"",
    "empty_path:  .asciz \"\"",
    ".balign 8",
    "read_only:   .quad {rdonly}, 0, 0, 0", // struct mount_attr
    ".popsection",
    ".globl mydocker_entry",
    "mydocker_entry:",
    "mov  r12, rdx",
    "mov  r13, [rsp]",     // the count of the words
    "lea  r14, [rsp + 8]", // the words
    // As cli::may_start_containers: the first word begins with a dash, or any is a command that starts containers.
    "mov  ebx, 1",
    "2:",
    "cmp  rbx, r13",
    "jae  9f",
    "mov  rsi, [r14 + 8 * rbx]",
    "cmp  ebx, 1",
    "jne  3f",
    "cmp  byte ptr [rsi], 0x2d", // "-"
    "je   5f",
    "3:",
    "mov  eax, [rsi]",       // behind the last word there is more, at least the path of the program
    "cmp  eax, 0x006e7572",  // "run", null
    "je   5f",
    "cmp  eax, 0x63657865",  // "exec"
    "jne  4f",
    "cmp  byte ptr [rsi + 4], 0",
    "je   5f",
    "4:",
    "inc  rbx",
    "cmp  eax, 0x61657263",  // "crea"
    "jne  2b",
    "cmp  dword ptr [rsi + 3], 0x00657461", // "ate", null
    "jne  2b",
    // Whether the file lies in the host's tree: not as the root of a mount of its own, and not in memory.
    "5:",
    "mov  eax, {readlink}",
    "lea  rdi, [rip + own_program]",
    "lea  rsi, [rsp - 64]",
    "mov  edx, 8",
    "syscall",
    "cmp  rax, 1", // "/"
    "je   9f",
    "mov  rax, [rsp - 64]",
    "shl  rax, 8",
    "mov  rcx, 0x3a64666d656d2f00", // "/memfd:"
    "cmp  rax, rcx",
    "je   9f",
    "mov  eax, {open_tree}",
    "mov  edi, {here}",
    "lea  rsi, [rip + own_program]",
    "mov  edx, {clone}",
    "syscall",
    "test eax, eax",
    "js   9f",
    "mov  r15d, eax",
    "mov  eax, {mount_setattr}",
    "mov  edi, r15d",
    "lea  rsi, [rip + empty_path]",
    "mov  edx, {itself}",
    "lea  r10, [rip + read_only]",
    "mov  r8d, 32",
    "syscall",
    "mov  ebp, eax",
    // Another descriptor of the same: with the one that cloned it, the right to change the mount goes (docs/adr/0020).
    "mov  eax, {open_tree}",
    "mov  edi, r15d",
    "lea  rsi, [rip + empty_path]",
    "mov  edx, {handle}",
    "syscall",
    "mov  ebx, eax",
    "mov  eax, {close}",
    "mov  edi, r15d",
    "syscall",
    "test ebx, ebx",
    "js   9f",
    "test ebp, ebp",
    "js   8f",
    "mov  eax, {execveat}",
    "mov  edi, ebx",
    "lea  rsi, [rip + empty_path]",
    "mov  rdx, r14",
    "lea  r10, [r14 + 8 * r13 + 8]", // the variables
    "mov  r8d, {itself}",
    "syscall",
    "8:",
    "mov  eax, {close}",
    "mov  edi, ebx",
    "syscall",
    "9:",
    "mov  rdx, r12",
    "jmp  _start",
    rdonly = const MOUNT_ATTR_RDONLY,
    here = const AT_FDCWD,
    itself = const AT_EMPTY_PATH,
    clone = const OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC,
    handle = const OPEN_TREE_CLOEXEC | AT_EMPTY_PATH as u32,
    readlink = const SYS_readlink,
    open_tree = const SYS_open_tree,
    mount_setattr = const SYS_mount_setattr,
    close = const SYS_close,
    execveat = const SYS_execveat,
);
