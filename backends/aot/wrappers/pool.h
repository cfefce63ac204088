/* __MODEL__: made by Thalweg. A pool of POSIX threads for the functions that end in _on, for programs that have none.
     __MODEL___threads threads;
     if (__MODEL___threads_start(&threads, 4) != 0) …                        four threads, the caller's included
     status = __MODEL_____FIRST___on(&threads.pool, …);
     __MODEL___threads_stop(&threads);
   Compile with -pthread. */
#ifndef __UPPER___THREADS_H
#define __UPPER___THREADS_H
#include <pthread.h>
#include "__MODEL__.h"

enum { __UPPER___MOST_WORKERS = 63, __UPPER___SPINS = 20000 };

typedef struct __MODEL___threads {
  __MODEL___pool pool;
  pthread_mutex_t busy; /* held while a job runs */
  pthread_mutex_t lock; /* of all below */
  pthread_cond_t wake, done;
  void (*task)(void *context, size_t number);
  void *context;
  size_t tasks, next, finished;
  unsigned long job; /* counts them */
  int stop, workers;
  pthread_t handles[__UPPER___MOST_WORKERS];
} __MODEL___threads;

/* Do tasks until none is left; with the lock held, but for the tasks themselves. */
static void __MODEL___threads_work(__MODEL___threads *t) {
  while (t->next < t->tasks) {
    size_t number = t->next++;
    pthread_mutex_unlock(&t->lock);
    t->task(t->context, number);
    pthread_mutex_lock(&t->lock);
    if (__atomic_add_fetch(&t->finished, 1, __ATOMIC_RELEASE) == t->tasks) pthread_cond_signal(&t->done);
  }
}

static void *__MODEL___threads_worker(void *argument) {
  __MODEL___threads *t = (__MODEL___threads *)argument;
  unsigned long seen = 0;
  int spins, stop = 0;
  while (!stop) {
    for (spins = 0; spins < __UPPER___SPINS && __atomic_load_n(&t->job, __ATOMIC_ACQUIRE) == seen; spins++) {}
    pthread_mutex_lock(&t->lock);
    while (t->job == seen) pthread_cond_wait(&t->wake, &t->lock);
    seen = t->job;
    stop = t->stop;
    __MODEL___threads_work(t);
    pthread_mutex_unlock(&t->lock);
  }
  return NULL;
}

static void __MODEL___threads_run(void *self, void (*task)(void *, size_t), void *context, size_t tasks) {
  __MODEL___threads *t = (__MODEL___threads *)self;
  size_t number;
  int spins;
  if (pthread_mutex_trylock(&t->busy) != 0) { /* another caller's job: do this one alone */
    for (number = 0; number < tasks; number++) task(context, number);
    return;
  }
  pthread_mutex_lock(&t->lock);
  t->task = task;
  t->context = context;
  t->tasks = tasks;
  t->next = 0;
  __atomic_store_n(&t->finished, 0, __ATOMIC_RELAXED);
  __atomic_add_fetch(&t->job, 1, __ATOMIC_RELEASE);
  pthread_cond_broadcast(&t->wake);
  __MODEL___threads_work(t);
  pthread_mutex_unlock(&t->lock);
  for (spins = 0; spins < __UPPER___SPINS && __atomic_load_n(&t->finished, __ATOMIC_ACQUIRE) < tasks; spins++) {}
  pthread_mutex_lock(&t->lock);
  while (t->finished < tasks) pthread_cond_wait(&t->done, &t->lock);
  pthread_mutex_unlock(&t->lock);
  pthread_mutex_unlock(&t->busy);
}

/* End the threads. No function may be running on the pool. */
static void __MODEL___threads_stop(__MODEL___threads *t) {
  int k;
  pthread_mutex_lock(&t->lock);
  t->stop = 1;
  t->next = t->tasks = 0;
  __atomic_add_fetch(&t->job, 1, __ATOMIC_RELEASE);
  pthread_cond_broadcast(&t->wake);
  pthread_mutex_unlock(&t->lock);
  for (k = 0; k < t->workers; k++) pthread_join(t->handles[k], NULL);
  pthread_cond_destroy(&t->done);
  pthread_cond_destroy(&t->wake);
  pthread_mutex_destroy(&t->lock);
  pthread_mutex_destroy(&t->busy);
}

/* Start so many threads, the caller's included; 0, or the error of the one that could not be started. */
static int __MODEL___threads_start(__MODEL___threads *t, int count) {
  int error = 0;
  t->pool.run = __MODEL___threads_run;
  t->pool.self = t;
  t->tasks = t->next = t->finished = 0;
  t->job = 0;
  t->stop = t->workers = 0;
  pthread_mutex_init(&t->busy, NULL);
  pthread_mutex_init(&t->lock, NULL);
  pthread_cond_init(&t->wake, NULL);
  pthread_cond_init(&t->done, NULL);
  while (error == 0 && t->workers < count - 1 && t->workers < __UPPER___MOST_WORKERS) {
    error = pthread_create(&t->handles[t->workers], NULL, __MODEL___threads_worker, t);
    t->workers += error == 0;
  }
  if (error != 0) __MODEL___threads_stop(t);
  return error;
}
#endif
