// Launches: blocks one after another, the threads of a block as fibers that change at barriers.
#include "device.h"

#include <algorithm>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <link.h>
#include <random>
#include <sys/mman.h>
#include <ucontext.h>

namespace device {

Running* running;

static const unsigned kMaxThreads = 1024, kWarp = 32;
static const size_t kStack = 128 * 1024, kSharedRoom = 512 * 1024;

// switch_stack(save, to): keep this stack in *save and go on with the other.
extern "C" void switch_stack(void** save, void* to);
asm(R"(
.text
.globl switch_stack
.type switch_stack, @function
switch_stack:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
)");

enum State : char { kReady, kAtBarrier, kAtWarp, kDone };

struct Fiber {
  void* stack_pointer;
  State state;
  bool active_mask;  // its mask came from __activemask
  unsigned line, mask, vote, votes, leader;
  uint64_t value;
};

struct Group {  // lanes that met at a warp barrier, and what each brought; kept at the lowest of them
  unsigned lanes;
  uint64_t values[kWarp];
};

static Fiber fibers[kMaxThreads];
static Group groups[kMaxThreads];
static char* stacks;
static void* main_stack;
static uint32_t epoch = 1;  // 1 is the host's
static char* shared_memory;
static Cell* shared_cells;
static std::mt19937 random_order;
static int launch_status;
static std::vector<std::pair<const char*, const char*>> modules;

bool in_stack(const void* address) {
  auto p = static_cast<const char*>(address);
  return p >= stacks && p < stacks + kMaxThreads * kStack;
}

bool in_module(const void* address) {
  auto p = static_cast<const char*>(address);
  for (auto& m : modules)
    if (p >= m.first && p < m.second) return true;
  return false;
}

void module_loaded(const void* any_address) {
  // Constants of a kernel lie in its library.
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* wanted) {
        const char *low = nullptr, *high = nullptr;
        for (int i = 0; i < info->dlpi_phnum; i++) {
          if (info->dlpi_phdr[i].p_type != PT_LOAD) continue;
          auto begin = reinterpret_cast<const char*>(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
          if (!low || begin < low) low = begin;
          high = std::max(high, begin + info->dlpi_phdr[i].p_memsz);
        }
        if (wanted < low || wanted >= high) return 0;
        modules.emplace_back(low, high);
        return 1;
      },
      const_cast<void*>(any_address));
}

Dim3 thread_index(unsigned linear) {
  Dim3 b = running->launch->block;
  return {linear % b.x, linear / b.x % b.y, linear / (b.x * b.y)};
}

void abort_kernel(int status, const char* format, ...) {
  char text[700];
  va_list list;
  va_start(list, format);
  vsnprintf(text, sizeof text, format, list);
  va_end(list);
  Dim3 b = running->block_index, t = thread_index(running->thread);
  launch_status = fail(status, "kernel %s: thread (%u,%u,%u) of block (%u,%u,%u) %s", running->launch->kernel->name.c_str(),
                       t.x, t.y, t.z, b.x, b.y, b.z, text);
  void* dropped;
  switch_stack(&dropped, main_stack);
  abort();
}

// Faults that the checks do not see, of code without them, end at a guard page.
static struct sigaction previous_action;
static uintptr_t fault_address;

static void landed() { abort_kernel(kIllegalAddress, "touches %s", place_of(reinterpret_cast<void*>(fault_address)).c_str()); }

static void on_fault(int number, siginfo_t* info, void* context) {
  auto registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  if (running && in_stack(reinterpret_cast<void*>(registers[REG_RSP]))) {
    fault_address = reinterpret_cast<uintptr_t>(info->si_addr);
    registers[REG_RSP] = (registers[REG_RSP] - 256) / 16 * 16 - 8;
    registers[REG_RIP] = reinterpret_cast<greg_t>(landed);
    return;
  }
  sigaction(number, &previous_action, nullptr);  // not ours: the instruction faults again
}

// Behind the static part, at an aligned place.
static unsigned dynamic_at(const Kernel* kernel) { return (kernel->info->static_shared + 1023) / 1024 * 1024; }

void* dynamic_shared() { return running->shared.begin + dynamic_at(running->launch->kernel); }

static void setup() {
  if (stacks) return;
  int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  stacks = static_cast<char*>(mmap(nullptr, kMaxThreads * kStack, PROT_READ | PROT_WRITE, flags, -1, 0));
  shared_memory = static_cast<char*>(mmap(nullptr, kSharedRoom, PROT_READ | PROT_WRITE, flags, -1, 0));
  shared_cells = static_cast<Cell*>(mmap(nullptr, kSharedRoom * sizeof(Cell), PROT_READ | PROT_WRITE, flags, -1, 0));
  static char signal_stack[64 * 1024];
  stack_t alternate{};
  alternate.ss_sp = signal_stack;
  alternate.ss_size = sizeof signal_stack;
  sigaltstack(&alternate, nullptr);
  random_order.seed(settings.seed);
}

static void fiber_main() {
  running->launch->kernel->info->call(running->arguments.data());
  settle_write();
  fibers[running->thread].state = kDone;
  void* dropped;
  switch_stack(&dropped, main_stack);
  abort();
}

static void pause(State state, unsigned line) {
  settle_write();
  Fiber& fiber = fibers[running->thread];
  fiber.state = state;
  fiber.line = line;
  switch_stack(&fiber.stack_pointer, main_stack);
}

static void start(unsigned thread) {
  Fiber& fiber = fibers[thread];
  fiber = Fiber{};
  auto top = reinterpret_cast<void**>(stacks + (thread + 1) * kStack - 64);
  *--top = nullptr;  // where the first frame would return
  *--top = reinterpret_cast<void*>(fiber_main);
  for (int i = 0; i < 6; i++) *--top = nullptr;
  fiber.stack_pointer = top;
}

// All threads that live have stopped: let those go on that may.  False: none may.
static bool release_waiting(unsigned threads, unsigned live) {
  bool released = false;
  for (unsigned first = 0; first < threads; first += kWarp) {
    unsigned waiting = 0, alive = 0, last = std::min(threads, first + kWarp);
    for (unsigned i = first; i < last; i++) {
      alive |= unsigned(fibers[i].state != kDone) << (i - first);
      waiting |= unsigned(fibers[i].state == kAtWarp) << (i - first);
    }
    bool turned = false;
    for (unsigned i = first; i < last; i++) {
      Fiber& fiber = fibers[i];
      if (fiber.state != kAtWarp) continue;
      unsigned wanted = fiber.mask & alive, same = 0;
      for (unsigned j = first; j < last; j++)
        same |= unsigned(fibers[j].state == kAtWarp && fibers[j].mask == fiber.mask) << (j - first);
      // Lanes that asked which lanes are active are those that stopped here.
      if ((wanted & ~same) && !(fiber.active_mask && !(waiting & ~same))) continue;
      groups[i].lanes = same;
      for (unsigned j = first; j < last; j++) {
        if (!(same >> (j - first) & 1)) continue;
        groups[i].values[j - first] = fibers[j].value;
        fibers[j].leader = i;
        fibers[j].state = kReady;
      }
      released = turned = true;
    }
    if (turned) running->turns[first / kWarp]++;
  }
  if (released) return true;
  unsigned at_barrier = 0, line = 0;
  bool one_line = true;
  for (unsigned i = 0; i < threads; i++) {
    if (fibers[i].state != kAtBarrier) continue;
    if (at_barrier++ && fibers[i].line != line) one_line = false;
    line = fibers[i].line;
  }
  if (at_barrier != live || live != threads || !one_line) return false;
  unsigned votes = 0;
  for (unsigned i = 0; i < threads; i++) votes += fibers[i].vote != 0;
  for (unsigned i = 0; i < threads; i++) fibers[i].state = kReady, fibers[i].votes = votes;
  running->epoch = ++epoch;
  memset(running->turns, 0, sizeof running->turns);
  return true;
}

static int diverged(unsigned threads) {
  std::string lines;
  unsigned done = 0, warp = 0, barrier = 0, seen[4], count = 0;
  for (unsigned i = 0; i < threads; i++) {
    const Fiber& fiber = fibers[i];
    done += fiber.state == kDone, warp += fiber.state == kAtWarp, barrier += fiber.state == kAtBarrier;
    if (fiber.state == kDone || count == 4 || std::find(seen, seen + count, fiber.line) != seen + count) continue;
    seen[count++] = fiber.line;
    lines += (lines.empty() ? "" : ", ") + std::to_string(fiber.line);
  }
  Dim3 b = running->block_index;
  return fail(kLaunchFailed,
              "kernel %s: divergent barrier in block (%u,%u,%u): of %u threads, %u wait at __syncthreads, %u at a warp "
              "barrier or shuffle, %u have ended (waiting at line %s)",
              running->launch->kernel->name.c_str(), b.x, b.y, b.z, threads, barrier, warp, done, lines.c_str());
}

static int run_block(unsigned threads, std::vector<unsigned>& order) {
  memset(shared_memory, 0xFF, size_t(running->shared.end - running->shared.mapping));
  running->block_epoch = running->epoch = ++epoch;
  memset(running->turns, 0, sizeof running->turns);
  for (unsigned i = 0; i < threads; i++) start(i);
  for (unsigned live = threads; live;) {
    if (settings.order == 2) std::shuffle(order.begin(), order.end(), random_order);
    for (unsigned i : order) {
      if (fibers[i].state != kReady) continue;
      running->thread = i;
      switch_stack(&main_stack, fibers[i].stack_pointer);
      if (launch_status) return launch_status;
      live -= fibers[i].state == kDone;
    }
    if (live && !release_waiting(threads, live)) return diverged(threads);
  }
  return kOk;
}

int check_launch(const Launch& launch) {
  const char* name = launch.kernel->name.c_str();
  Dim3 g = launch.grid, b = launch.block;
  uint64_t threads = b.count();
  if (!threads || threads > kMaxThreads || b.x > 1024 || b.y > 1024 || b.z > 64)
    return fail(kInvalidConfiguration, "kernel %s: a block of %ux%ux%u threads", name, b.x, b.y, b.z);
  if (!g.count() || g.x > 0x7FFFFFFF || g.y > 65535 || g.z > 65535)
    return fail(kInvalidConfiguration, "kernel %s: a grid of %ux%ux%u blocks", name, g.x, g.y, g.z);
  if (launch.kernel->info->max_threads && threads > launch.kernel->info->max_threads)
    return fail(kInvalidConfiguration, "kernel %s: %lu threads, but launch bounds of %u", name, threads,
                launch.kernel->info->max_threads);
  size_t shared = launch.kernel->info->static_shared + size_t(launch.dynamic_shared);
  if (launch.kernel->info->static_shared > 49152)
    return fail(kInvalidConfiguration, "kernel %s: %u bytes of static shared memory, at most 49152", name,
                launch.kernel->info->static_shared);
  if (launch.dynamic_shared > launch.kernel->max_dynamic || shared > settings.max_dynamic_shared)
    return fail(kInvalidConfiguration, "kernel %s: %u bytes of dynamic shared memory, at most %u as it is set up", name,
                launch.dynamic_shared, launch.kernel->max_dynamic);
  return kOk;
}

int run(const Launch& launch) {
  setup();
  unsigned threads = unsigned(launch.block.count());
  const KernelInfo* info = launch.kernel->info;
  Running now{};
  now.launch = &launch;
  for (auto& a : launch.arguments) now.arguments.push_back(const_cast<char*>(a.data()));
  now.shared.mapping = now.shared.begin = shared_memory;
  now.shared.end = shared_memory + (launch.dynamic_shared ? dynamic_at(launch.kernel) + launch.dynamic_shared : info->static_shared);
  now.shared.mapped = kSharedRoom;
  now.shared.cells = shared_cells;
  now.shared.device = -1;
  now.launch_epoch = epoch + 1;
  counters.launches++;
  counters.blocks += long(launch.grid.count());
  counters.threads += long(launch.grid.count() * threads);
  std::vector<unsigned> order(threads);
  for (unsigned i = 0; i < threads; i++) order[i] = settings.order == 1 ? threads - 1 - i : i;
  uint64_t blocks = launch.grid.count();
  std::vector<uint32_t> shuffled;
  if (settings.order == 2) {
    for (uint64_t i = 0; i < blocks; i++) shuffled.push_back(uint32_t(i));
    std::shuffle(shuffled.begin(), shuffled.end(), random_order);
  }
  running = &now;
  launch_status = kOk;
  struct sigaction action{};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  sigaction(SIGSEGV, &action, &previous_action);
  int status = kOk;
  for (uint64_t i = 0; i < blocks && !status; i++) {
    uint64_t at = settings.order == 1 ? blocks - 1 - i : settings.order == 2 ? shuffled[i] : i;
    Dim3 g = launch.grid;
    now.block_index = {unsigned(at % g.x), unsigned(at / g.x % g.y), unsigned(at / (uint64_t(g.x) * g.y))};
    status = run_block(threads, order);
  }
  sigaction(SIGSEGV, &previous_action, nullptr);
  running = nullptr;
  return status;
}

}  // namespace device

// What kernels call ----------------------------------------------------------------------------------
using device::fibers;
using device::running;
extern "C" {
unsigned device_index(int which) {
  const device::Launch& launch = *running->launch;
  device::Dim3 d = which < 3   ? device::thread_index(running->thread)
                   : which < 6 ? running->block_index
                   : which < 9 ? launch.block
                               : launch.grid;
  return which % 3 == 0 ? d.x : which % 3 == 1 ? d.y : d.z;
}
void* device_static_shared() { return running->shared.begin; }
void* device_dynamic_shared() { return device::dynamic_shared(); }
unsigned device_barrier(unsigned line, unsigned vote) {
  fibers[running->thread].vote = vote;
  device::pause(device::kAtBarrier, line);
  return fibers[running->thread].votes;
}
unsigned device_active_mask() {
  fibers[running->thread].active_mask = true;
  return 0xFFFFFFFFu;
}
void device_fence() { running->launch_epoch = running->block_epoch; }
// Leave a value for the lanes of `mask`, and wait for theirs.
void device_warp_put(unsigned line, unsigned mask, uint64_t value) {
  device::Fiber& fiber = fibers[running->thread];
  if (!(mask >> (running->thread & 31) & 1))
    device::abort_kernel(device::kLaunchFailed, "is not in its own mask %x (line %u)", mask, line);
  fiber.value = value;
  fiber.mask = mask;
  device::pause(device::kAtWarp, line);
}
// What a lane left when this one last waited.  A lane that took no part left nothing: all bits are set.
uint64_t device_warp_get(unsigned lane) {
  const device::Group& group = device::groups[fibers[running->thread].leader];
  return lane < 32 && group.lanes >> lane & 1 ? group.values[lane] : ~uint64_t(0);
}
// The lanes that met.
unsigned device_warp_lanes() { return device::groups[fibers[running->thread].leader].lanes; }
void device_trap(unsigned line) { device::abort_kernel(device::kLaunchFailed, "stopped at a trap (line %u)", line); }
}
