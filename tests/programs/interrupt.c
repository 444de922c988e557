/* Runs a program, counts what it does to the files below a folder, and interrupts it there: kills it before or after one of
 * these operations, in the middle of one, or lets one fail as on a full disk.
 *
 *   interrupt FOLDER LIST ACTIONS PROGRAM [ARGUMENT...]
 *
 * FOLDER is absolute. LIST gets a line for each operation, TAB between: its number, its system call, its file, the file's
 * new name (of rename and link), what was done to it. ACTIONS are ACTION:NUMBER, with commas between:
 *
 *   kill-before:N   kills the program before operation N        fail:N      operation N alone fails: no space is left
 *   kill-after:N    kills it when operation N is done           full:N      so does all from N on that takes space
 *   kill-within:N   kills it when half of a write is done      free:N      from N on there is space again
 *   hold:N          waits before operation N until there is a file LIST.go
 *
 * It watches system calls (ptrace), not a library's functions: some crates call the kernel themselves. So that a run does
 * the same operations in the same order each time, the program's first thread waits with its next one until what a thread
 * called "checkpoint" does is done. Exits as the program does, with 128 and the signal's number where a signal ended it. */
#define _GNU_SOURCE
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum { OPENS = 1, WRITES = 2, TAKES_SPACE = 4, IS_FILE = 8 };

/* A call, and which of its arguments name the file: a folder's descriptor and a path below it, or (IS_FILE) a descriptor. */
static const struct call {
  long number;
  const char *name;
  int what, folder, path, new_folder, new_path;
} calls[] = {
    {SYS_openat, "open", OPENS, 0, 1, -1, -1},
    {SYS_openat2, "open", OPENS, 0, 1, -1, -1},
    {SYS_write, "write", IS_FILE | WRITES | TAKES_SPACE, 0, -1, -1, -1},
    {SYS_pwrite64, "write", IS_FILE | WRITES | TAKES_SPACE, 0, -1, -1, -1},
    {SYS_writev, "write", IS_FILE | TAKES_SPACE, 0, -1, -1, -1},
    {SYS_pwritev, "write", IS_FILE | TAKES_SPACE, 0, -1, -1, -1},
    {SYS_pwritev2, "write", IS_FILE | TAKES_SPACE, 0, -1, -1, -1},
    {SYS_copy_file_range, "write", IS_FILE | TAKES_SPACE, 2, -1, -1, -1},
    {SYS_sendfile, "write", IS_FILE | TAKES_SPACE, 0, -1, -1, -1},
    {SYS_fallocate, "write", IS_FILE | TAKES_SPACE, 0, -1, -1, -1},
    {SYS_ftruncate, "truncate", IS_FILE, 0, -1, -1, -1},
    {SYS_truncate, "truncate", 0, -1, 0, -1, -1},
    {SYS_fsync, "sync", IS_FILE, 0, -1, -1, -1},
    {SYS_fdatasync, "sync", IS_FILE, 0, -1, -1, -1},
    {SYS_mkdirat, "mkdir", TAKES_SPACE, 0, 1, -1, -1},
    {SYS_unlinkat, "unlink", 0, 0, 1, -1, -1},
    {SYS_renameat2, "rename", 0, 0, 1, 2, 3},
    {SYS_linkat, "link", TAKES_SPACE, 0, 1, 2, 3},
    {SYS_symlinkat, "link", TAKES_SPACE, -1, 0, 1, 2},
#ifdef SYS_open /* older calls, which newer processors do not have */
    {SYS_open, "open", OPENS, -1, 0, -1, -1},
    {SYS_creat, "open", TAKES_SPACE, -1, 0, -1, -1},
    {SYS_mkdir, "mkdir", TAKES_SPACE, -1, 0, -1, -1},
    {SYS_unlink, "unlink", 0, -1, 0, -1, -1},
    {SYS_rmdir, "unlink", 0, -1, 0, -1, -1},
    {SYS_rename, "rename", 0, -1, 0, -1, 1},
    {SYS_link, "link", TAKES_SPACE, -1, 0, -1, 1},
    {SYS_symlink, "link", TAKES_SPACE, -1, 0, -1, 1},
#endif
#ifdef SYS_renameat
    {SYS_renameat, "rename", 0, 0, 1, 2, 3},
#endif
};
enum { CALLS = sizeof calls / sizeof *calls };

static const char *folder, *actions;
static char go[PATH_MAX];
static FILE *list;
static pid_t program;
static unsigned long operations;

static void die(const char *what) {
  fprintf(stderr, "interrupt: %s: %s\n", what, strerror(errno));
  exit(125); /* the program goes along: PTRACE_O_EXITKILL */
}

/* In the program, before it begins: from here on the kernel stops it at each of these calls. */
static void watch_calls(void) {
  struct sock_filter filter[CALLS + 3];
  filter[0] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
  for (int i = 0; i < CALLS; i++)
    filter[i + 1] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i].number, CALLS - i, 0);
  filter[CALLS + 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  filter[CALLS + 2] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE);
  struct sock_fprog code = {CALLS + 3, filter};
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &code)) die("seccomp");
}

/* Sets the third argument of a call that is about to be made; or, with a result, lets the call not be made. */
static void change_call(pid_t thread, int skip, long value) {
#if defined __x86_64__
  size_t field = skip ? offsetof(struct user_regs_struct, rax) : offsetof(struct user_regs_struct, rdx);
  if (ptrace(PTRACE_POKEUSER, thread, field, value)) die("ptrace");
  if (skip && ptrace(PTRACE_POKEUSER, thread, offsetof(struct user_regs_struct, orig_rax), -1L)) die("ptrace");
#elif defined __aarch64__
  struct user_regs_struct registers;
  struct iovec all = {&registers, sizeof registers};
  if (ptrace(PTRACE_GETREGSET, thread, NT_PRSTATUS, &all)) die("ptrace");
  registers.regs[skip ? 0 : 2] = value;
  if (ptrace(PTRACE_SETREGSET, thread, NT_PRSTATUS, &all)) die("ptrace");
  int none = -1;
  struct iovec number = {&none, sizeof none};
  if (skip && ptrace(PTRACE_SETREGSET, thread, NT_ARM_SYSTEM_CALL, &number)) die("ptrace");
#else
#error "how a call's registers are set on this processor is not written yet"
#endif
}

/* Where a link in /proc/THREAD leads. */
static void follow(pid_t thread, const char *name, long number, char *path) {
  char link[64];
  snprintf(link, sizeof link, number < 0 ? "/proc/%d/%s" : "/proc/%d/%s/%ld", thread, name, number);
  ssize_t length = readlink(link, path, PATH_MAX - 1);
  path[length < 0 ? 0 : length] = 0;
}

/* The path that a call's arguments name: the string at `address`, below the folder that is open as `descriptor`. */
static void name_of(pid_t thread, int descriptor, unsigned long address, char *path) {
  char given[PATH_MAX] = "", base[PATH_MAX] = "";
  for (size_t done = 0; done < sizeof given - 1 && (!done || given[done - 1]); done++) { /* it may end with a page */
    struct iovec here = {given + done, 1}, there = {(void *)(address + done), 1};
    if (process_vm_readv(thread, &here, 1, &there, 1, 0) != 1) break;
  }
  if (*given != '/') follow(thread, descriptor == AT_FDCWD ? "cwd" : "fd", descriptor == AT_FDCWD ? -1 : descriptor, base);
  if (snprintf(path, PATH_MAX, *base ? "%s/%s" : "%s%s", base, given) >= PATH_MAX) die("a path is too long");
}

/* The part of `path` below the folder; `.` is the folder itself. NULL: it is elsewhere. */
static const char *below(const char *path) {
  size_t length = strlen(folder);
  if (strncmp(path, folder, length) || (path[length] && path[length] != '/')) return NULL;
  return path[length] ? path + length + 1 : ".";
}

/* Ends the program, and its child that `thread` may be of. */
static void kill_all(pid_t thread) {
  kill(thread, SIGKILL);
  kill(program, SIGKILL);
}

static int is_asked_for(const char *action, unsigned long number) {
  char wanted[64];
  snprintf(wanted, sizeof wanted, ",%s:%lu,", action, number);
  return strstr(actions, wanted) != NULL;
}

/* Whether a thread called "checkpoint" is at work. */
static int is_saving(void) {
  char path[PATH_MAX], name[32];
  snprintf(path, sizeof path, "/proc/%d/task", program);
  DIR *threads = opendir(path);
  int found = 0;
  for (struct dirent *entry; threads && !found && (entry = readdir(threads));) {
    snprintf(path, sizeof path, "/proc/%d/task/%s/comm", program, entry->d_name);
    FILE *file = fopen(path, "re");
    found = file && fgets(name, sizeof name, file) && !strcmp(name, "checkpoint\n");
    if (file) fclose(file);
  }
  if (threads) closedir(threads);
  return found;
}

/* A thread is about to make a call. Gives how it goes on: 0 when it is to wait. */
static int meet(pid_t thread) {
  struct __ptrace_syscall_info info;
  if (ptrace(PTRACE_GET_SYSCALL_INFO, thread, sizeof info, &info) < 0) return errno == ESRCH ? PTRACE_CONT : (die("ptrace"), 0);
  const struct call *call = calls;
  while (call->number != (long)info.seccomp.nr) call++;
  const __uint64_t *arguments = info.seccomp.args;
  long flags = 0;
  if (call->number == SYS_openat) flags = arguments[2];
#ifdef SYS_open
  if (call->number == SYS_open) flags = arguments[1];
#endif
  if (call->number == SYS_openat2) process_vm_readv(thread, &(struct iovec){&flags, 8}, 1, &(struct iovec){(void *)arguments[2], 8}, 1, 0);
  if ((call->what & OPENS) && !(flags & (O_WRONLY | O_RDWR | O_CREAT))) return PTRACE_CONT;

  static char path[PATH_MAX], new_path[PATH_MAX];
  *new_path = 0;
  int from = call->folder < 0 ? AT_FDCWD : (int)arguments[call->folder];
  if (call->what & IS_FILE) follow(thread, "fd", from, path);
  else name_of(thread, from, arguments[call->path], path);
  if (call->new_path >= 0) name_of(thread, call->new_folder < 0 ? AT_FDCWD : (int)arguments[call->new_folder], arguments[call->new_path], new_path);
  const char *name = below(path), *new_name = below(new_path);
  if (!name && !new_name) return PTRACE_CONT;
  if (thread == program && is_saving()) return 0;

  operations++;
  fprintf(list, "%lu\t%s\t%s\t%s\t", operations, call->name, name ? name : path, new_name ? new_name : "");
  fflush(list);
  if (is_asked_for("hold", operations)) {
    while (access(go, F_OK)) usleep(1000);
    fputs("held", list);
  }
  static int is_full;
  is_full = is_asked_for("full", operations) || (is_full && !is_asked_for("free", operations));
  int takes_space = (call->what & TAKES_SPACE) || ((flags & O_CREAT) && access(path, F_OK)), how = PTRACE_CONT;
  if (is_asked_for("kill-before", operations)) {
    fputs("killed before", list);
    kill_all(thread);
  } else if (is_asked_for("kill-after", operations)) {
    how = PTRACE_SYSCALL; /* it is killed when it comes back from the call */
  } else if (is_asked_for("kill-within", operations) && (call->what & WRITES)) {
    change_call(thread, 0, arguments[2] / 2);
    how = PTRACE_SYSCALL;
  } else if (is_asked_for("fail", operations) || (is_full && takes_space)) {
    fputs("failed", list);
    change_call(thread, 1, -ENOSPC);
  }
  if (how == PTRACE_CONT) fputc('\n', list);
  fflush(list);
  return how;
}

int main(int count, char **arguments) {
  if (count < 5) {
    fputs("usage: interrupt FOLDER LIST ACTIONS PROGRAM [ARGUMENT...]\n", stderr);
    return 2;
  }
  char padded[256];
  folder = arguments[1];
  actions = padded;
  if (snprintf(padded, sizeof padded, ",%s,", arguments[3]) >= (int)sizeof padded) die("actions");
  if (!(list = fopen(arguments[2], "we"))) die(arguments[2]);
  snprintf(go, sizeof go, "%s.go", arguments[2]);
  int ready[2];
  if (pipe2(ready, O_CLOEXEC) || (program = fork()) < 0) die("fork");
  if (!program) {
    char byte;
    if (read(ready[0], &byte, 1) != 1) return 125;
    watch_calls();
    execvp(arguments[4], arguments + 4);
    die(arguments[4]);
  }
  long options = PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACESECCOMP;
  if (ptrace(PTRACE_SEIZE, program, 0, options)) die("ptrace: may this system's processes not watch others?");
  if (write(ready[1], "", 1) != 1) die("pipe");

  int held = 0, status;
  for (;;) {
    pid_t thread = waitpid(-1, &status, __WALL);
    if (thread < 0 && errno == EINTR) continue;
    if (thread < 0) die("wait");
    if (!WIFSTOPPED(status)) {
      if (thread == program) break;
      if (held && !is_saving()) {
        held = 0;
        int how = meet(program);
        held = !how;
        if (how) ptrace(how, program, 0, 0);
      }
      continue;
    }
    int signal = WSTOPSIG(status), event = status >> 16;
    if (event == PTRACE_EVENT_SECCOMP) {
      int how = meet(thread);
      if (how) ptrace(how, thread, 0, 0);
      else held = 1;
    } else if (signal == (SIGTRAP | 0x80)) { /* back from the call after which it is to be killed */
      fputs("killed after\n", list);
      fflush(list);
      kill_all(thread);
    } else if (event == PTRACE_EVENT_STOP && (signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU)) {
      ptrace(PTRACE_LISTEN, thread, 0, 0);
    } else {
      ptrace(PTRACE_CONT, thread, 0, event ? 0 : signal);
    }
  }
  fclose(list);
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
