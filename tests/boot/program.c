/* A Linux program for tests/boot/programs.sh: uses what storage programs use, checks what comes. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static int failed;
#define CHECK(what)                                                                                \
    do {                                                                                           \
        if (!(what)) {                                                                             \
            printf("line %d: %s (errno %d)\n", __LINE__, #what, errno);                            \
            failed = 1;                                                                            \
        }                                                                                          \
    } while (0)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static long counter, turn;
static double sum;
static __thread long own;

static void *count(void *arg)
{
    for (int i = 0; i < 5000; i++) {
        pthread_mutex_lock(&lock);
        counter++;
        sum += 0.5;
        pthread_mutex_unlock(&lock);
        own++;
    }
    return own == 5000 ? arg : NULL;
}

static void *take_turns(void *arg)
{
    for (int i = 0; i < 50; i++) {
        pthread_mutex_lock(&lock);
        while (turn % 2 != (long)arg)
            pthread_cond_wait(&changed, &lock);
        turn++;
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

static void threads(void)
{
    pthread_t t[8];
    void *result;
    for (long i = 0; i < 8; i++)
        CHECK(pthread_create(&t[i], NULL, count, &t[i]) == 0);
    for (int i = 0; i < 8; i++)
        CHECK(pthread_join(t[i], &result) == 0 && result == &t[i]);
    CHECK(counter == 40000 && sum == 20000);
    for (long i = 0; i < 2; i++)
        CHECK(pthread_create(&t[i], NULL, take_turns, (void *)i) == 0);
    for (int i = 0; i < 2; i++)
        CHECK(pthread_join(t[i], NULL) == 0);
    CHECK(turn == 100);
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 20000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&lock);
    CHECK(pthread_cond_timedwait(&changed, &lock, &until) == ETIMEDOUT);
    pthread_mutex_unlock(&lock);
}

static void files(void)
{
    char b[100] = "";
    struct stat s;
    CHECK(mkdir("/work", 0755) == 0 && chdir("/work") == 0 && getcwd(b, sizeof(b)) &&
          !strcmp(b, "/work"));
    int fd = open("f", O_CREAT | O_EXCL | O_RDWR, 0640);
    CHECK(fd >= 0 && open("f", O_CREAT | O_EXCL | O_RDWR, 0640) < 0 && errno == EEXIST);
    CHECK(write(fd, "0123456789", 10) == 10 && pwrite(fd, "X", 1, 5000) == 1);
    CHECK(fstat(fd, &s) == 0 && s.st_size == 5001 && S_ISREG(s.st_mode) &&
          (s.st_mode & 0777) == 0640);
    CHECK(pread(fd, b, 4, 3) == 4 && !memcmp(b, "3456", 4));
    CHECK(lseek(fd, -1, SEEK_END) == 5000 && read(fd, b, 9) == 1 && b[0] == 'X' &&
          read(fd, b, 9) == 0);
    CHECK(lseek(fd, -1, SEEK_SET) < 0 && errno == EINVAL);
    struct iovec v[2] = {{b, 3}, {b + 50, 4}};
    CHECK(preadv(fd, v, 2, 2) == 7 && !memcmp(b, "234", 3) && !memcmp(b + 50, "5678", 4));
    CHECK(ftruncate(fd, 3) == 0 && fsync(fd) == 0 && pread(fd, b, 9, 0) == 3);
    int other = dup(fd);
    CHECK(other > fd && close(fd) == 0 && write(fd, "a", 1) < 0 && errno == EBADF);
    CHECK(fcntl(other, F_GETFL) == O_RDWR || (fcntl(other, F_GETFL) & O_ACCMODE) == O_RDWR);
    close(other);
    CHECK(rename("f", "g") == 0 && access("f", F_OK) < 0 && errno == ENOENT);
    CHECK(symlink("g", "l") == 0 && stat("l", &s) == 0 && s.st_size == 3 && lstat("l", &s) == 0 &&
          S_ISLNK(s.st_mode) && readlink("l", b, sizeof(b)) == 1 && b[0] == 'g');
    CHECK(link("g", "h") == 0 && stat("h", &s) == 0 && s.st_nlink == 2);
    fd = open("l", O_WRONLY | O_APPEND);
    CHECK(fd >= 0 && write(fd, "++", 2) == 2 && read(fd, b, 1) < 0 && errno == EBADF);
    close(fd);
    DIR *d = opendir(".");
    int names = 0;
    for (struct dirent *e; d && (e = readdir(d));)
        names += e->d_name[0] != '.';
    CHECK(d && names == 3 && closedir(d) == 0);
    CHECK(unlink("g") == 0 && unlink("h") == 0 && unlink("l") == 0 && unlink("l") < 0 &&
          errno == ENOENT);
    CHECK(rmdir("/work") == 0 && open("/nowhere/x", O_RDONLY) < 0 && errno == ENOENT);
    CHECK(syscall(SYS_write, 1, 8, 10) < 0 && errno == EFAULT);
    CHECK(syscall(SYS_open, 8, O_RDONLY) < 0 && errno == EFAULT);
    struct statfs fs;
    CHECK(statfs("/", &fs) == 0 && fs.f_bsize > 0);
    CHECK(isatty(1) == 1);
    FILE *f = fopen("/tmp/stdio", "w+");
    CHECK(f && fprintf(f, "%d %.3f\n", 12, 1.5) == 9 && fseek(f, 0, SEEK_SET) == 0 &&
          fgets(b, 99, f) && !strcmp(b, "12 1.500\n"));
    if (f)
        fclose(f);
}

static void disk(void)
{
    static char b[8192] __attribute__((aligned(4096)));
    char c[16];
    unsigned long long size = 0;
    int fd = open("/dev/vda", O_RDWR);
    CHECK(fd >= 0 && ioctl(fd, 0x80081272, &size) == 0 && size == 4 << 20);
    CHECK(lseek(fd, 0, SEEK_END) == 4 << 20 && read(fd, b, 1) == 0 && write(fd, b, 1) < 0 &&
          errno == ENOSPC);
    memset(b, 'd', sizeof(b));
    CHECK(pwrite(fd, b, sizeof(b), 65536) == (int)sizeof(b) &&
          pwrite(fd, "odd", 3, 65536 + 510) == 3);
    CHECK(fsync(fd) == 0 && pread(fd, c, 5, 65536 + 509) == 5 && !memcmp(c, "doddd", 5));
    close(fd);
}

static void memory(void)
{
    char *p = mmap(NULL, 64 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(p != MAP_FAILED && p[0] == 0 && p[(64 << 20) - 1] == 0);
    p[4096] = 'p';
    CHECK(mprotect(p + 4096, 4096, PROT_READ) == 0 && p[4096] == 'p');
    CHECK(mprotect(p + 4096, 4096, PROT_READ | PROT_WRITE) == 0);
    p[4096] = 'q';
    CHECK(munmap(p, 4096) == 0 && p[4096] == 'q' && madvise(p + 4096, 4096, MADV_DONTNEED) == 0);
    CHECK(p[4096] == 0 && munmap(p + 4096, (64 << 20) - 4096) == 0);
    char *m = malloc(1000);
    for (size_t n = 1000; n < 8000000; n *= 3) {
        m = realloc(m, n * 3);
        CHECK(m);
        m[n * 3 - 1] = 1;
    }
    free(m);
    int fd = open("/tmp/map", O_CREAT | O_RDWR, 0600);
    CHECK(write(fd, "mapped", 6) == 6);
    char *f = mmap(NULL, 6, PROT_READ, MAP_PRIVATE, fd, 0);
    CHECK(f != MAP_FAILED && !memcmp(f, "mapped", 6) && f[100] == 0);
    close(fd);
    struct timespec a, b, pause = {0, 3000000};
    clock_gettime(CLOCK_MONOTONIC, &a);
    nanosleep(&pause, NULL);
    clock_gettime(CLOCK_MONOTONIC, &b);
    CHECK((b.tv_sec - a.tv_sec) * 1000000000 + b.tv_nsec - a.tv_nsec >= 3000000);
    CHECK(time(NULL) > 1600000000 && sysconf(_SC_NPROCESSORS_ONLN) >= 1);
}

static void *forever(void *arg)
{
    for (volatile long n = 0;; n++)
        ;
    return arg;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "all";
    pthread_t t;
    if (!strcmp(what, "segv"))
        *(volatile int *)8 = 1;
    if (!strcmp(what, "abort"))
        abort();
    if (!strcmp(what, "spin")) {
        pthread_create(&t, NULL, forever, NULL);
        usleep(30000);
        return 9;
    }
    if (!strcmp(what, "unknown")) {
        int ok = syscall(SYS_io_setup, 1, NULL) < 0 && errno == ENOSYS;
        return ok && syscall(SYS_io_setup, 1, NULL) < 0 ? 0 : 1;
    }
    threads();
    files();
    if (access("/dev/vda", F_OK) == 0)
        disk();
    memory();
    printf("arguments: %s|%s|%s\n", argv[1], argv[2], argv[3]);
    if (!failed)
        printf("all is well\n");
    return failed ? 1 : 42;
}
