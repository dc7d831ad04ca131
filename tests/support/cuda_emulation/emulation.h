// Runs CUDA kernels on a CPU, for tests where there is no GPU: blocks one after the other, the threads of a
// block as contexts that take turns and change at barriers and shuffles. It finds wrong results, threads that
// wait at different barriers, and more shared memory than a block has; not what depends on timing, and no
// speed.
#pragma once

#include <cstddef>
#include <cstring>
#include <functional>
#include <type_traits>

namespace emulation {

struct Index {
  unsigned x = 0;
};
extern Index thread_index, block_index, grid_size, block_size;

constexpr size_t kSharedBytes = 227 << 10;  // of a block, as a Hopper GPU has

// Dynamic shared memory of the block that runs; filled with 0xff before each.
unsigned char* dynamic_shared();
// All threads of the block, those of the warp, that have not ended. Throws std::logic_error from run() when
// some wait here and others elsewhere.
void wait_for_block();
void wait_for_warp();
// 8 bytes of each thread, for shuffles.
void* slot_of_thread(unsigned thread);

template <typename T>
T value_of_lane(T value, int lane) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>);
  std::memcpy(slot_of_thread(thread_index.x), &value, sizeof value);
  wait_for_warp();
  std::memcpy(&value, slot_of_thread(thread_index.x / 32 * 32 + static_cast<unsigned>(lane)), sizeof value);
  wait_for_warp();
  return value;
}

// `thread` is called once for every thread of every block. Throws std::logic_error.
void run(unsigned blocks, unsigned threads, size_t shared_bytes, const std::function<void()>& thread);

// kernel<<<blocks, threads, shared_bytes, stream>>>(arguments...) is launch(kernel, ...)(arguments...).
template <typename... Parameters>
auto launch(void (*kernel)(Parameters...), unsigned blocks, unsigned threads, size_t shared_bytes, void*) {
  return [=](auto... arguments) { run(blocks, threads, shared_bytes, [&] { kernel(arguments...); }); };
}

}  // namespace emulation
