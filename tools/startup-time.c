/* The clock and the yardstick of tools/startup-time; compiled there, on the spot.
 *
 *   startup-time probe               writes CLOCK_MONOTONIC in ns to stdout and exits: the command inside a container
 *   startup-time minimal ROOT CMD    the least that can be called a container: clone with six new namespaces, pivot_root,
 *                                    proc, execve
 *   startup-time time N FILE         runs each line of FILE (name, tab, [@MOUNT-NAMESPACE] words) N times, turn by turn, and prints a table
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void die(const char *what) {
  fprintf(stderr, "startup-time: %s: %s\n", what, strerror(errno));
  exit(125);
}

static int probe(void) {
  char text[32];
  int length = snprintf(text, sizeof text, "%lld\n", (long long)now());
  return write(1, text, length) == length ? 0 : 1;
}

struct minimal {
  char *root;
  char **command;
};

static int inside(void *argument) {
  struct minimal *m = argument;
  if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) die("private");
  if (mount(m->root, m->root, NULL, MS_BIND | MS_REC, NULL)) die("bind");
  if (chdir(m->root)) die(m->root);
  if (syscall(SYS_pivot_root, ".", ".")) die("pivot_root");
  if (umount2(".", MNT_DETACH)) die("detach");
  if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL)) die("proc");
  if (sethostname("container", 9)) die("sethostname");
  execve(m->command[0], m->command, environ);
  die(m->command[0]);
  return 127;
}

static int minimal(char *root, char **command) {
  static char stack[65536] __attribute__((aligned(16)));
  struct minimal m = {root, command};
  int flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP | SIGCHLD;
  pid_t pid = clone(inside, stack + sizeof stack, flags, &m);
  int status;
  if (pid < 0) die("clone");
  if (waitpid(pid, &status, 0) < 0) die("waitpid");
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

#define CONTENDERS 16
struct contender {
  char *name, *words[64];
  int64_t *to_exec, *life;
  int failed;
};

static int run_once(struct contender *c, int round) {
  int ends[2], status;
  char text[64];
  char **words = c->words;
  int mounts = -1;
  if (pipe2(ends, O_CLOEXEC)) die("pipe");
  /* @PATH in front of the command: another mount namespace to run it in */
  if (words[0][0] == '@' && (mounts = open(*words++ + 1, O_RDONLY | O_CLOEXEC)) < 0) die(c->words[0]);
  int64_t start = now();
  pid_t pid = vfork();
  if (pid < 0) die("vfork");
  if (!pid) {
    if (dup2(ends[1], 1) < 0 || (mounts >= 0 && setns(mounts, CLONE_NEWNS))) _exit(126);
    execvp(words[0], words);
    _exit(127);
  }
  if (mounts >= 0) close(mounts);
  close(ends[1]);
  if (waitpid(pid, &status, 0) < 0) die("waitpid");
  int64_t end = now();
  ssize_t got = read(ends[0], text, sizeof text - 1);
  close(ends[0]);
  if (status || got <= 0) return -1;
  text[got] = 0;
  if (round >= 0) {
    c->to_exec[round] = strtoll(text, NULL, 10) - start;
    c->life[round] = end - start;
  }
  return 0;
}

static int smaller(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

static double ms(int64_t *sorted, int n, int percent) {
  int at = n * percent / 100;
  return sorted[at < n ? at : n - 1] / 1e6;
}

static int time_all(int n, const char *file) {
  static struct contender all[CONTENDERS];
  int count = 0;
  static char line[16384];
  FILE *in = fopen(file, "r");
  if (!in) die(file);
  while (count < CONTENDERS && fgets(line, sizeof line, in)) {
    struct contender *c = &all[count];
    int w = 0;
    char *copy = strdup(line);
    copy[strcspn(copy, "\n")] = 0;
    if (!(c->name = strtok(copy, "\t"))) continue;
    for (char *word; w < 63 && (word = strtok(NULL, " "));) c->words[w++] = word;
    c->to_exec = calloc(n, sizeof(int64_t));
    c->life = calloc(n, sizeof(int64_t));
    count++;
  }
  int null = open("/dev/null", O_RDONLY);
  dup2(null, 0);
  close(null);
  /* turn by turn, so that all meet the same weather; the first round is not counted */
  for (int round = -1; round < n; round++)
    for (int i = 0; i < count; i++)
      if (!all[i].failed && run_once(&all[i], round)) all[i].failed = 1;
  printf("%d runs each, ms           fork to exec            whole life\n", n);
  printf("%-22s %7s %7s %7s   %7s %7s %7s   ratio\n", "", "min", "median", "p95", "min", "median", "p95");
  double yardstick = 0;
  for (int i = 0; i < count; i++) {
    struct contender *c = &all[i];
    if (c->failed) {
      printf("%-22s failed\n", c->name);
      continue;
    }
    qsort(c->to_exec, n, sizeof(int64_t), smaller);
    qsort(c->life, n, sizeof(int64_t), smaller);
    if (!yardstick) yardstick = ms(c->life, n, 50);
    printf("%-22s %7.2f %7.2f %7.2f   %7.2f %7.2f %7.2f   %5.2f\n", c->name, ms(c->to_exec, n, 0), ms(c->to_exec, n, 50),
           ms(c->to_exec, n, 95), ms(c->life, n, 0), ms(c->life, n, 50), ms(c->life, n, 95), ms(c->life, n, 50) / yardstick);
  }
  return 0;
}

int main(int count, char **words) {
  if (count == 2 && !strcmp(words[1], "probe")) return probe();
  if (count == 1 && strstr(words[0], "probe")) return probe();
  if (count >= 4 && !strcmp(words[1], "minimal")) return minimal(words[2], words + 3);
  if (count == 4 && !strcmp(words[1], "time")) return time_all(atoi(words[2]), words[3]);
  fprintf(stderr, "usage: startup-time probe | minimal ROOT CMD... | time N FILE\n");
  return 2;
}
