/* __MODEL__: made by Thalweg. Prints the latency of every signature.
     cc -O2 -I../include main.c ../linux-x86_64/lib__MODEL__.a -o bench && ./bench ../weights.safetensors [rows]__USAGE__ */
#if !defined(_WIN32) && !defined(_POSIX_C_SOURCE)
#define _POSIX_C_SOURCE 199309L /* clock_gettime */
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "__MODEL__.h"
__POOL__
#ifdef _WIN32
#include <windows.h>
static double now(void) {
  LARGE_INTEGER count, per_second;
  QueryPerformanceCounter(&count);
  QueryPerformanceFrequency(&per_second);
  return 1e6 * (double)count.QuadPart / (double)per_second.QuadPart;
}
#else
#include <time.h>
static double now(void) { /* microseconds */
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return 1e6 * (double)t.tv_sec + 1e-3 * (double)t.tv_nsec;
}
#endif

enum { MOST_RUNS = 100000 };
static double times[MOST_RUNS];
static void *state;
static int32_t n = 1; /* rows of a batch */

static void *aligned(size_t bytes) { /* zeros; never freed: the program ends soon */
  char *memory = calloc(bytes + 2 * __UPPER___ALIGNMENT, 1);
  if (memory == NULL) {
    fprintf(stderr, "not enough memory\n");
    exit(1);
  }
  return memory + (__UPPER___ALIGNMENT - (size_t)memory % __UPPER___ALIGNMENT);
}

static void *floats(size_t count) {
  float *data = aligned(count * sizeof(float));
  size_t i;
  for (i = 0; i < count; i++) data[i] = (float)(i % 17) / 8 - 1;
  return data;
}

static void read_state(const char *path) {
  const void *found = __MODEL___initial_state();
  state = aligned(__UPPER___STATE_BYTES);
  if (found == NULL && __UPPER___STATE_BYTES > 0) {
    FILE *file = fopen(path, "rb");
    size_t bytes = __UPPER___STATE_BYTES + 8 + 1000000; /* the header is shorter */
    char *data = aligned(bytes);
    if (file == NULL) {
      fprintf(stderr, "%s cannot be read: it is the first argument of this program\n", path);
      exit(1);
    }
    bytes = fread(data, 1, bytes, file);
    fclose(file);
    if (__MODEL___state_of(data, bytes, &found) != __UPPER___OK) {
      fprintf(stderr, "%s does not hold the weights of this model\n", path);
      exit(1);
    }
  }
  if (found != NULL) memcpy(state, found, __UPPER___STATE_BYTES);
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return x < y ? -1 : x > y;
}

static void measure(const char *name, int32_t (*run)(void)) {
  double start, begin = now();
  int runs = 0, status = run(); /* the first one warms the caches */
  while (status == __UPPER___OK && runs < MOST_RUNS && (runs < 5 || now() - begin < 1e6)) {
    start = now();
    status = run();
    times[runs++] = now() - start;
  }
  if (status != __UPPER___OK) {
    fprintf(stderr, "%s: status %d\n", name, status);
    exit(1);
  }
  qsort(times, (size_t)runs, sizeof(double), compare);
  printf("%-24s %12.3f %12.3f %8d\n", name, times[runs / 2], times[0], runs);
}

__SIGNATURES__
int main(int count, char **arguments) {
  if (count > 2) n = atoi(arguments[2]);
  if (n < 1) {
    fprintf(stderr, "the second argument is the number of rows of a batch, at least 1\n");
    return 1;
  }
__START__  read_state(count > 1 ? arguments[1] : "../weights.safetensors");
  printf("%-24s %12s %12s %8s\n", "signature", "median us", "best us", "runs");
__MEASURES__
  return 0;
}
