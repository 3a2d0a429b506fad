/* Steps the clock of the programs that are started with it, and refuses new files as a quota does.

   SOAK_STATE names a file of two numbers, which is read anew each time: by how many seconds the
   clock is off, and whether the quota of the folder SOAK_QUOTA is used up. Times of files stay
   those of the kernel, as those of a file server whose clock is another one. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *state;
static const char *folder;

static int has_word(const char *word) {
    char line[4096];
    int file = syscall(SYS_openat, AT_FDCWD, "/proc/self/cmdline", O_RDONLY);
    ssize_t size = file < 0 ? 0 : read(file, line, sizeof line);
    if (file >= 0) close(file);
    return size > 0 && memmem(line, size, word, strlen(word)) != NULL;
}

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("SOAK_STATE");
    /* A supervisor compares times of files, which are not stepped here, with the clock. */
    if (name == NULL || has_word("supervisor.py")) return;
    int file = syscall(SYS_openat, AT_FDCWD, name, O_RDONLY | O_CLOEXEC);
    if (file < 0) return;
    void *found = mmap(NULL, 2 * sizeof *state, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    folder = getenv("SOAK_QUOTA");
    if (found != MAP_FAILED) state = found;
}

int clock_gettime(clockid_t which, struct timespec *now) {
    int code = syscall(SYS_clock_gettime, which, now);
    if (code == 0 && which == CLOCK_REALTIME && state) now->tv_sec += state[0];
    return code;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    int code = syscall(SYS_gettimeofday, now, zone);
    if (code == 0 && state) now->tv_sec += state[0];
    return code;
}

time_t time(time_t *into) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (into) *into = now.tv_sec;
    return now.tv_sec;
}

static int refused(const char *path, int flags) {
    if (!state || !state[1] || !folder || !(flags & O_CREAT)) return 0;
    if (strncmp(path, folder, strlen(folder))) return 0;
    errno = EDQUOT;
    return 1;
}

#define MODE(flags) \
    mode_t mode = 0; \
    va_list rest; \
    va_start(rest, flags); \
    if ((flags) & (O_CREAT | O_TMPFILE)) mode = va_arg(rest, mode_t); \
    va_end(rest)

int open64(const char *path, int flags, ...) {
    MODE(flags);
    return refused(path, flags) ? -1 : syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int open(const char *path, int flags, ...) {
    MODE(flags);
    return refused(path, flags) ? -1 : syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}
