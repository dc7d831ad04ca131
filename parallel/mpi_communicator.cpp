#include "parallel/mpi_communicator.h"

#include <sched.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <thread>

#include "parallel/mpi_check.h"
#include "parallel/tensor_checks.h"

namespace fwl {
namespace {

// Below this a collective costs latency, not bandwidth, and MPI's own trees win.
constexpr int64_t kSmallBytes = 64 * 1024;
// A segment of a ring message: two are in flight while a third is being added. Measured best from 128 to 512
// KiB.
constexpr int64_t kSegmentBytes = 256 * 1024;
constexpr int64_t kBroadcastPieceBytes = 16 * 1024 * 1024;
constexpr int kAnyPeer = -1;
constexpr int kRingTag = 1;

// A wait spins shortly, then yields the core, and sleeps between polls once it has lasted this long: by then
// a rank is late, and may need this core.
constexpr int kSpins = 50;
constexpr double kYieldFor_s = 0.02;
constexpr std::chrono::microseconds kNap(50);

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

MPI_Datatype mpi_type(at::ScalarType type) {
  if (type == at::kFloat) return MPI_FLOAT;
  return type == at::kDouble ? MPI_DOUBLE : MPI_INT64_T;
}

std::byte* bytes_of(const Tensor& tensor) {
  return static_cast<std::byte*>(tensor.data_ptr());
}

int64_t size_in_bytes(const Tensor& tensor) {
  return static_cast<int64_t>(tensor.nbytes());
}

// MPI may still write into the buffers of an operation that was given up: they are never freed.
void keep_until_exit(std::vector<Tensor> buffers) {
  static auto* kept = new std::vector<std::vector<Tensor>>;
  kept->push_back(std::move(buffers));
}

int64_t segments(int64_t bytes) {
  return (bytes + kSegmentBytes - 1) / kSegmentBytes;
}

int segment_bytes(int64_t bytes, int64_t segment) {
  return static_cast<int>(std::min(kSegmentBytes, bytes - segment * kSegmentBytes));
}

template <typename T>
void add(std::byte* sum, const std::byte* addend, int64_t bytes) {
  T* __restrict to = reinterpret_cast<T*>(sum);
  const T* __restrict from = reinterpret_cast<const T*>(addend);
  const int64_t count = bytes / static_cast<int64_t>(sizeof(T));
  for (int64_t i = 0; i < count; ++i) to[i] += from[i];
}

}  // namespace

MpiCommunicator::MpiCommunicator(MPI_Comm comm, double timeout_s) : comm_(comm), timeout_s_(timeout_s) {
  FWL_MPI(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN));
  FWL_MPI(MPI_Comm_rank(comm_, &rank_));
  FWL_MPI(MPI_Comm_size(comm_, &size_));
}

MpiCommunicator::~MpiCommunicator() {
  int finalized = 0;
  MPI_Finalized(&finalized);
  if (usable_ && !finalized) MPI_Comm_free(&comm_);
}

// Runs one collective. When it fails, the ranks' operations no longer match: the group is closed for good.
template <typename Body>
void MpiCommunicator::run(const char* operation, std::vector<Tensor> buffers, Body body) {
  require<CommError>(
      usable_, operation, " on rank ", rank_, " of ", size_, " after operation ", operations_, " (",
      operation_,
      ") failed (the ranks are no longer in step). End the job and restart it from its last checkpoint.");
  operation_ = operation;
  ++operations_;
  buffers_ = std::move(buffers);
  try {
    body();
  } catch (...) {
    usable_ = false;
    keep_until_exit(std::move(buffers_));
    throw;
  }
  buffers_.clear();
}

void MpiCommunicator::fail_late(int peer, double elapsed_s) const {
  throw CommError(
      cat(operation_, " (operation ", operations_, " of its group) on rank ", rank_, " of ", size_,
          " waited ", elapsed_s, " s for ", peer == kAnyPeer ? cat("the other ranks") : cat("rank ", peer),
          " (a rank is late, hangs or is gone). Look at the other ranks' logs; raise parallel.timeout_s when "
          "they only needed more time."));
}

// Polls until `request` is complete; `expected_bytes` < 0 skips the check of a message's length.
void MpiCommunicator::wait_for(MPI_Request& request, int peer, int64_t expected_bytes) {
  const Clock::time_point start = Clock::now();
  MPI_Status status;
  for (int polls = 0, done = 0;; ++polls) {
    FWL_MPI(MPI_Test(&request, &done, &status));
    if (done) break;
    if (polls < kSpins) continue;
    const double elapsed_s = seconds_since(start);
    if (elapsed_s >= timeout_s_) fail_late(peer, elapsed_s);
    if (elapsed_s < kYieldFor_s) {
      sched_yield();
    } else {
      std::this_thread::sleep_for(kNap);
    }
  }
  if (expected_bytes < 0) return;
  int received = 0;
  FWL_MPI(MPI_Get_count(&status, MPI_BYTE, &received));
  require<CommError>(received == expected_bytes, operation_, " (operation ", operations_,
                     " of its group) on rank ", rank_, " expected ", expected_bytes, " bytes from rank ",
                     peer, ", got ", received,
                     " (the ranks disagree on a shape). Start all ranks with the same config and program.");
}

// Sends `out` to the right neighbour while `in` comes from the left one, in segments. Receives in place, or
// through `staging` (two segments); `arrived(data, staged, bytes)` runs while the next segment is on its way.
template <typename Arrived>
void MpiCommunicator::pass_to_the_right(Block out, Block in, std::byte* staging, Arrived arrived) {
  std::array<MPI_Request, 2> sends = {MPI_REQUEST_NULL, MPI_REQUEST_NULL};
  std::array<MPI_Request, 2> receives = sends;
  const int right = neighbour(1), left = neighbour(-1);
  const int64_t to_send = segments(out.bytes), to_receive = segments(in.bytes);
  const auto place = [&](int64_t i) {
    return staging ? staging + (i % 2) * kSegmentBytes : in.data + i * kSegmentBytes;
  };
  const auto post = [&](int64_t i) {
    if (i < to_receive) {
      FWL_MPI(
          MPI_Irecv(place(i), segment_bytes(in.bytes, i), MPI_BYTE, left, kRingTag, comm_, &receives[i % 2]));
    }
    if (i < to_send) {
      FWL_MPI(MPI_Isend(out.data + i * kSegmentBytes, segment_bytes(out.bytes, i), MPI_BYTE, right, kRingTag,
                        comm_, &sends[i % 2]));
    }
  };
  post(0);
  for (int64_t i = 0; i < std::max(to_send, to_receive); ++i) {
    post(i + 1);
    if (i < to_receive) {
      wait_for(receives[i % 2], left, segment_bytes(in.bytes, i));
      arrived(in.data + i * kSegmentBytes, place(i), segment_bytes(in.bytes, i));
    }
    if (i < to_send) wait_for(sends[i % 2], right, -1);
  }
  counter_->bytes_sent += out.bytes;
}

// Ring all-gather: in step s this rank passes on block first_sent - s, and receives the one before it.
void MpiCommunicator::gather_ring(const std::vector<Block>& blocks, int first_sent) {
  for (int step = 0; step < size_ - 1; ++step) {
    const int sent = (first_sent - step + size_) % size_;
    const int received = (sent - 1 + size_) % size_;
    pass_to_the_right(blocks[sent], blocks[received], nullptr, [](std::byte*, std::byte*, int64_t) {});
  }
}

// Ring all-reduce (Patarasuk and Yuan 2009): a reduce-scatter after which rank r holds the sum of block r +
// 1, then an all-gather of the blocks. Each block is added up in one order and then copied, so all ranks hold
// the same bits.
template <typename T>
void MpiCommunicator::reduce_ring(const Tensor& tensor) {
  const int64_t count = tensor.numel();
  std::vector<Block> blocks;
  for (int64_t b = 0; b < size_; ++b) {
    const int64_t first = count * b / size_, last = count * (b + 1) / size_;
    blocks.push_back(
        {bytes_of(tensor) + first * sizeof(T), (last - first) * static_cast<int64_t>(sizeof(T))});
  }
  buffers_.push_back(at::empty({2 * kSegmentBytes}, at::kByte));
  std::byte* staging = bytes_of(buffers_.back());
  for (int step = 0; step < size_ - 1; ++step) {
    pass_to_the_right(blocks[neighbour(-step)], blocks[neighbour(-step - 1)], staging, add<T>);
  }
  gather_ring(blocks, neighbour(1));
}

void MpiCommunicator::reduce_small(const Tensor& tensor) {
  MPI_Request request;
  FWL_MPI(MPI_Iallreduce(MPI_IN_PLACE, tensor.data_ptr(), static_cast<int>(tensor.numel()),
                         mpi_type(tensor.scalar_type()), MPI_SUM, comm_, &request));
  wait_for(request, kAnyPeer, -1);
  counter_->bytes_sent += size_in_bytes(tensor);
}

void MpiCommunicator::reduce(const Tensor& tensor) {
  if (tensor.numel() == 0) return;
  if (size_in_bytes(tensor) <= kSmallBytes) return reduce_small(tensor);
  if (tensor.scalar_type() == at::kFloat) return reduce_ring<float>(tensor);
  if (tensor.scalar_type() == at::kDouble) return reduce_ring<double>(tensor);
  reduce_ring<int64_t>(tensor);
}

void MpiCommunicator::all_reduce_sum(Tensor tensor) {
  check_on_device("all_reduce_sum", tensor, at::kCPU);
  check_summable("all_reduce_sum", tensor);
  counter_ = &traffic_.all_reduce;
  ++counter_->calls;
  if (tensor.scalar_type() != at::kBFloat16) {
    run("all_reduce_sum", {tensor}, [&] { reduce(tensor); });
    return;
  }
  // Rounded once, after the sum: bfloat16 partial sums would lose a bit per rank.
  const Tensor sums = tensor.to(at::kFloat);
  run("all_reduce_sum", {sums}, [&] { reduce(sums); });
  tensor.copy_(sums);
}

void MpiCommunicator::broadcast(Tensor tensor, int root) {
  check_on_device("broadcast", tensor, at::kCPU);
  check_root("broadcast", root, size_);
  counter_ = &traffic_.broadcast;
  ++counter_->calls;
  run("broadcast", {tensor}, [&] {
    const int64_t bytes = size_in_bytes(tensor);
    for (int64_t done = 0; done < bytes; done += kBroadcastPieceBytes) {
      MPI_Request request;
      FWL_MPI(MPI_Ibcast(bytes_of(tensor) + done,
                         static_cast<int>(std::min(kBroadcastPieceBytes, bytes - done)), MPI_BYTE, root,
                         comm_, &request));
      wait_for(request, kAnyPeer, -1);
    }
    if (rank_ == root) counter_->bytes_sent += bytes;
  });
}

void MpiCommunicator::all_gather(Tensor out, Tensor in) {
  check_on_device("all_gather", out, at::kCPU);
  check_on_device("all_gather", in, at::kCPU);
  check_gather("all_gather", out, in, size_);
  counter_ = &traffic_.all_gather;
  ++counter_->calls;
  const int64_t bytes = size_in_bytes(in);
  if (bytes == 0) return run("all_gather", {}, [] {});
  std::byte* own = bytes_of(out) + rank_ * bytes;
  if (own != bytes_of(in)) std::memmove(own, in.data_ptr(), static_cast<size_t>(bytes));
  run("all_gather", {out}, [&] {
    if (bytes > kSmallBytes) {
      std::vector<Block> blocks;
      for (int r = 0; r < size_; ++r) blocks.push_back({bytes_of(out) + r * bytes, bytes});
      return gather_ring(blocks, rank_);
    }
    MPI_Request request;
    FWL_MPI(MPI_Iallgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, out.data_ptr(), static_cast<int>(bytes),
                           MPI_BYTE, comm_, &request));
    wait_for(request, kAnyPeer, -1);
    counter_->bytes_sent += bytes;
  });
}

void MpiCommunicator::barrier() {
  ++traffic_.barrier.calls;
  run("barrier", {}, [&] {
    MPI_Request request;
    FWL_MPI(MPI_Ibarrier(comm_, &request));
    wait_for(request, kAnyPeer, -1);
  });
}

}  // namespace fwl
