/* Minibatch SGD of a line for many members at once, its vectors written by hand: what the machine can do.
 *
 * Member l has its own learning rate and start; all see the same minibatches, and the loss of a minibatch is the
 * weighted mean of loss(prediction - target). A thread takes a run of members, 64 of them at a time: they stay in
 * registers over all steps, each number of a row meets all of them at once. No statistics, no other shortcut.
 *
 *   cc -O3 -march=native -ffast-math -shared -fPIC -pthread -DD=2 sgd_sweep.c -o sgd_sweep.so
 *
 * rates (members), x (steps, batch, D), y and weight (steps, batch), params (D + 1, members) in and out with the bias
 * last, losses (steps, members) out: the loss of each minibatch before its step. All float32, row-major.
 */
#include <pthread.h>
#include <stddef.h>
#include <string.h>

#ifndef D
#define D 2
#endif
#define WIDTH 16               /* floats in a vector register of 512 bits; the compiler splits it for shorter ones */
#define VECTORS (D > 4 ? 1 : 4) /* registers of members at a time: enough to hide the latency of a multiply-add */
#define MOST_THREADS 256

typedef float vec __attribute__((vector_size(4 * WIDTH)));
typedef int mask __attribute__((vector_size(4 * WIDTH)));
enum { SQUARED, HUBER, ABSOLUTE };

typedef struct {
  const float *rates, *x, *y, *weight;
  float *params, *losses;
  long members, first, last;
  int steps, batch, kind;
} part;

static inline vec same(float value) { return (vec){0} + value; }
static inline vec where(mask condition, vec yes, vec no) {
  return (vec)(((mask)yes & condition) | ((mask)no & ~condition));
}

/* Up to WIDTH numbers; past the end of the members there are zeros. */
static inline vec load(const float *from, long count) {
  vec values = {0};
  if (count >= WIDTH) memcpy(&values, from, sizeof values);
  else if (count > 0) memcpy(&values, from, 4 * count);
  return values;
}
static inline void store(float *to, vec values, long count) {
  if (count >= WIDTH) memcpy(to, &values, sizeof values);
  else if (count > 0) memcpy(to, &values, 4 * count);
}

/* The loss of a residual, and its slope. */
static inline __attribute__((always_inline)) vec loss_of(vec residual, int kind, vec *slope) {
  if (kind == SQUARED) {
    *slope = residual;
    return 0.5f * residual * residual;
  }
  if (kind == HUBER) {
    vec below = where(residual > same(1), same(1), residual);
    vec clipped = where(below < same(-1), same(-1), below);
    *slope = clipped;
    return clipped * (residual - 0.5f * clipped);
  }
  *slope = where(residual > same(0), same(1), where(residual < same(0), same(-1), same(0)));
  return *slope * residual;
}

static inline __attribute__((always_inline)) void descend(const part *all, int kind) {
  const long members = all->members;
  for (long at = all->first; at < all->last; at += WIDTH * VECTORS) {
    const long left = all->last - at;
    vec params[D + 1][VECTORS], rate[VECTORS];
    for (int v = 0; v < VECTORS; v++) {
      rate[v] = load(all->rates + at + v * WIDTH, left - v * WIDTH);
      for (int k = 0; k <= D; k++)
        params[k][v] = load(all->params + k * members + at + v * WIDTH, left - v * WIDTH);
    }
    for (int s = 0; s < all->steps; s++) {
      const float *x = all->x + (size_t)s * all->batch * D, *y = all->y + (size_t)s * all->batch;
      const float *weight = all->weight + (size_t)s * all->batch;
      vec gradient[D + 1][VECTORS] = {0}, loss[VECTORS] = {0};
      float total = 0;
      for (int i = 0; i < all->batch; i++) {
        total += weight[i];
        for (int v = 0; v < VECTORS; v++) {
          vec residual = params[D][v] - y[i], slope;
          for (int k = 0; k < D; k++) residual += x[i * D + k] * params[k][v];
          loss[v] += weight[i] * loss_of(residual, kind, &slope);
          slope *= weight[i];
          for (int k = 0; k < D; k++) gradient[k][v] += x[i * D + k] * slope;
          gradient[D][v] += slope;
        }
      }
      for (int v = 0; v < VECTORS; v++) {
        store(all->losses + (size_t)s * members + at + v * WIDTH, loss[v] / total, left - v * WIDTH);
        for (int k = 0; k <= D; k++) params[k][v] -= rate[v] / total * gradient[k][v];
      }
    }
    for (int v = 0; v < VECTORS; v++)
      for (int k = 0; k <= D; k++)
        store(all->params + k * members + at + v * WIDTH, params[k][v], left - v * WIDTH);
  }
}

static void *run(void *given) {
  const part *all = given;
  if (all->kind == SQUARED) descend(all, SQUARED);
  else if (all->kind == HUBER) descend(all, HUBER);
  else descend(all, ABSOLUTE);
  return 0;
}

void sgd_sweep(const float *rates, const float *x, const float *y, const float *weight, float *params, float *losses,
               long members, int steps, int batch, int kind, int threads) {
  const long at_a_time = WIDTH * VECTORS, blocks = (members + at_a_time - 1) / at_a_time;
  pthread_t started[MOST_THREADS];
  part parts[MOST_THREADS];
  int apart[MOST_THREADS] = {0};
  if (threads > MOST_THREADS) threads = MOST_THREADS;
  for (int t = 0; t < threads; t++) {
    const long first = blocks * t / threads * at_a_time, last = blocks * (t + 1) / threads * at_a_time;
    parts[t] = (part){rates, x, y, weight, params, losses, members, first, last < members ? last : members,
                      steps, batch, kind};
    apart[t] = t && !pthread_create(&started[t], 0, run, &parts[t]);
  }
  for (int t = 0; t < threads; t++)
    if (!apart[t]) run(&parts[t]);
  for (int t = 1; t < threads; t++)
    if (apart[t]) pthread_join(started[t], 0);
}
