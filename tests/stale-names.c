// What a client of NFS does for a while after it has looked for a file in vain: it says that the file is not there without
// asking again. For LD_PRELOAD, for one name on some nodes:
//
// STALE_NAME     how the path ends
// STALE_HOSTS    the nodes, between commas
// STALE_SECONDS  how long a node remembers that the file was not there
// STALE_FROM     "start": as if it had been looked for before this process began; else "look"
//
// What this process itself gives the name is there.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static double forgotten_at;  // when the name is looked for again; 0 where it has not been looked for in vain

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec + time.tv_nsec * 1e-9;
}

static int is_on_list(const char *list, const char *word) {
  size_t length = strlen(word);
  for (const char *at = list; (at = strstr(at, word)) != NULL; at += length)
    if ((at == list || at[-1] == ',') && (at[length] == ',' || at[length] == 0)) return 1;
  return 0;
}

static int concerns(const char *path) {
  const char *name = getenv("STALE_NAME"), *hosts = getenv("STALE_HOSTS");
  char host[256] = "";
  if (path == NULL || name == NULL || hosts == NULL || gethostname(host, sizeof host - 1) != 0) return 0;
  size_t length = strlen(path), tail = strlen(name);
  return length >= tail && strcmp(path + length - tail, name) == 0 && is_on_list(hosts, host);
}

static void look_in_vain(void) { forgotten_at = now() + atof(getenv("STALE_SECONDS")); }

__attribute__((constructor)) static void start(void) {
  const char *from = getenv("STALE_FROM");
  if (from != NULL && strcmp(from, "start") == 0 && getenv("STALE_SECONDS") != NULL) look_in_vain();
}

static int is_hidden(const char *path) {
  if (!concerns(path) || now() >= forgotten_at) return 0;
  errno = ENOENT;
  return 1;
}

static int looked(const char *path, int result) {
  if (result < 0 && errno == ENOENT && concerns(path)) {
    look_in_vain();
    errno = ENOENT;
  }
  return result;
}

static int named(const char *path, int result) {
  if (result == 0 && concerns(path)) forgotten_at = 0;
  return result;
}

#define REAL(function) __typeof__(&function) real = (__typeof__(&function))dlsym(RTLD_NEXT, #function)

int statx(int folder, const char *restrict path, int flags, unsigned mask, struct statx *restrict out) {
  REAL(statx);
  return is_hidden(path) ? -1 : looked(path, real(folder, path, flags, mask, out));
}

#define STAT(function, type)                                      \
  int function(const char *restrict path, type *restrict out) {   \
    REAL(function);                                               \
    return is_hidden(path) ? -1 : looked(path, real(path, out));  \
  }
STAT(stat, struct stat)
STAT(lstat, struct stat)
STAT(stat64, struct stat64)
STAT(lstat64, struct stat64)

int access(const char *path, int mode) {
  REAL(access);
  return is_hidden(path) ? -1 : looked(path, real(path, mode));
}

// A file that is made is asked of the server.
#define OPEN(function)                                                          \
  int function(const char *path, int flags, ...) {                              \
    REAL(function);                                                             \
    va_list more;                                                               \
    va_start(more, flags);                                                      \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;     \
    va_end(more);                                                               \
    if (!(flags & O_CREAT) && is_hidden(path)) return -1;                       \
    return looked(path, real(path, flags, mode));                               \
  }
OPEN(open)
OPEN(open64)

int rename(const char *from, const char *to) {
  REAL(rename);
  return named(to, real(from, to));
}

int linkat(int from_folder, const char *from, int to_folder, const char *to, int flags) {
  REAL(linkat);
  return named(to, real(from_folder, from, to_folder, to, flags));
}
