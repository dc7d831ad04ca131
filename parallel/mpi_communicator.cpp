#include "parallel/mpi_communicator.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <string_view>
#include <utility>

#include "parallel/bounded_wait.h"
#include "parallel/failure.h"
#include "parallel/mpi_check.h"
#include "parallel/tensor_checks.h"
#include "parallel/traffic.h"

namespace fwl {
namespace {

// A segment of a ring message: two are in flight while a third is being added. Measured best from 128 to 512
// KiB.
constexpr int64_t kSegmentBytes = 256 * 1024;
constexpr int64_t kBroadcastPieceBytes = 16 * 1024 * 1024;
constexpr int kAnyPeer = -1;
constexpr int kRingTag = 1;
// Messages of operation n carry tag kFirstTag + n mod kTags, so that those of two operations never mix.
constexpr int kFirstTag = 2;
constexpr int kTags = 30000;
constexpr int64_t kMessagePieceBytes = 256 * 1024 * 1024;

// A wait spins shortly, then yields the core, and sleeps between polls once it has lasted this long: by then
// a rank is late, and may need this core.
constexpr int kSpins = 50;
constexpr BoundedWait::Rest kRest{0.02, 50};
constexpr BoundedWait::Rest kOwnRest{0, 1000};  // no message is waited for

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

// log2, rounded up.
int64_t doubling_steps(int ranks) {
  int64_t steps = 0;
  for (int have = 1; have < ranks; have *= 2) ++steps;
  return steps;
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

// Messages between pairs, posted and not yet waited for.
class MpiCommunicator::PendingMessages final : public Transfer {
 public:
  struct Piece {
    MPI_Request request;
    int peer;
    int64_t expected_bytes;  // -1: a send
  };

  PendingMessages(MpiCommunicator& group, Operation operation, std::vector<Tensor> buffers,
                  std::function<void()> finish)
      : group_(group),
        operation_(std::move(operation)),
        buffers_(std::move(buffers)),
        finish_(std::move(finish)),
        start_s_(now_s()) {}
  ~PendingMessages() override {
    if (!done_) keep_until_exit(std::move(buffers_));
  }

  void wait() override {
    const double waiting_s = now_s();
    group_.guarded([&] {
      for (Piece& piece : pieces)
        group_.wait_for(operation_, piece.request, piece.peer, piece.expected_bytes);
    });
    if (group_.watchdog_ != nullptr) group_.watchdog_->end(operation_);
    if (finish_) finish_();
    group_.times_.exposed_s += now_s() - waiting_s;
    group_.times_.total_s += now_s() - start_s_;
    done_ = true;
  }

  std::vector<Piece> pieces;

 private:
  MpiCommunicator& group_;
  Operation operation_;
  std::vector<Tensor> buffers_;
  std::function<void()> finish_;
  double start_s_;
  bool done_ = false;
};

MpiCommunicator::MpiCommunicator(MPI_Comm comm, const std::string& group, const std::vector<int>& members,
                                 double timeout_s)
    : comm_(comm), watchdog_(watchdog()), timeout_s_(timeout_s) {
  FWL_MPI(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN));
  FWL_MPI(MPI_Comm_rank(comm_, &rank_));
  FWL_MPI(MPI_Comm_size(comm_, &size_));
  if (watchdog_ != nullptr) group_ = watchdog_->add_group(group, members, timeout_s);
}

MpiCommunicator::~MpiCommunicator() {
  int finalized = 0;
  MPI_Finalized(&finalized);
  if (usable_ && !finalized) MPI_Comm_free(&comm_);
}

TransferTimes MpiCommunicator::take_times() {
  return std::exchange(times_, TransferTimes{});
}

// Begins one collective. When one fails, the ranks' operations no longer match: the group is closed for good.
void MpiCommunicator::enter(const std::string& what, std::vector<Tensor> buffers) {
  require<CommError>(
      usable_, what, " on rank ", rank_, " of ", size_, " after operation ", operation_.number, " (",
      operation_.what,
      ") failed (the ranks are no longer in step). End the job and restart it from its last checkpoint.");
  const int64_t number = operation_.number + 1;
  operation_ = watchdog_ != nullptr ? watchdog_->begin(group_, what) : Operation{-1, number, what};
  buffers_ = std::move(buffers);
}

template <typename Body>
void MpiCommunicator::guarded(Body body) {
  try {
    body();
  } catch (const Error& error) {
    usable_ = false;
    keep_until_exit(std::move(buffers_));
    report_failure(static_cast<int>(error.code()), error.what());
    throw;
  } catch (...) {
    usable_ = false;
    throw;
  }
}

// A collective that is done when this returns.
template <typename Body>
TransferPtr MpiCommunicator::run(const std::string& what, std::vector<Tensor> buffers, Body body) {
  struct Done final : Transfer {
    void wait() override {}
  };
  const double start_s = now_s();
  enter(what, std::move(buffers));
  guarded(body);
  if (watchdog_ != nullptr) watchdog_->end(operation_);
  buffers_.clear();
  times_.total_s += now_s() - start_s;
  times_.exposed_s += now_s() - start_s;
  return std::make_unique<Done>();
}

// A collective made of messages. Those to this rank itself are copied at once.
TransferPtr MpiCommunicator::post(const std::string& what, const std::vector<Message>& sends,
                                  const std::vector<Message>& receives, std::function<void()> finish) {
  std::vector<Tensor> buffers;
  for (const auto* messages : {&sends, &receives})
    for (const Message& m : *messages) buffers.push_back(m.tensor);
  enter(what, {});
  auto pending = std::make_unique<PendingMessages>(*this, operation_, std::move(buffers), std::move(finish));
  const int tag = kFirstTag + static_cast<int>(operation_.number % kTags);
  const auto in_pieces = [&](const Message& m, auto start_piece) {
    const int64_t bytes = size_in_bytes(m.tensor);
    for (int64_t done = 0; done < bytes; done += kMessagePieceBytes)
      start_piece(bytes_of(m.tensor) + done, std::min(kMessagePieceBytes, bytes - done));
  };
  guarded([&] {
    for (const Message& m : receives) {
      if (m.peer == rank_) continue;
      in_pieces(m, [&](std::byte* data, int64_t bytes) {
        MPI_Request request;
        FWL_MPI(MPI_Irecv(data, static_cast<int>(bytes), MPI_BYTE, m.peer, tag, comm_, &request));
        pending->pieces.push_back({request, m.peer, bytes});
      });
    }
    for (const Message& m : sends) {
      if (m.peer == rank_) continue;
      in_pieces(m, [&](std::byte* data, int64_t bytes) {
        MPI_Request request;
        FWL_MPI(MPI_Isend(data, static_cast<int>(bytes), MPI_BYTE, m.peer, tag, comm_, &request));
        pending->pieces.push_back({request, m.peer, -1});
      });
    }
  });
  const auto to_self = [&](const Message& m) { return m.peer == rank_; };
  auto from = std::find_if(sends.begin(), sends.end(), to_self);
  for (const Message& m : receives) {
    if (m.peer != rank_) continue;
    require<InternalError>(from != sends.end(), what, ": a message from this rank to itself is not sent.");
    m.tensor.view({-1}).copy_(from->tensor.view({-1}));
    from = std::find_if(from + 1, sends.end(), to_self);
  }
  return pending;
}

// The equal parts of a contiguous tensor, one for each rank.
std::vector<Message> MpiCommunicator::parts_of(const Tensor& tensor) const {
  const Tensor rows = tensor.view({size_, -1});
  std::vector<Message> parts;
  for (int r = 0; r < size_; ++r) parts.push_back({r, rows[r]});
  return parts;
}

// Polls until `request` is complete; `expected_bytes` < 0 skips the check of a message's length.
void MpiCommunicator::wait_for(const Operation& operation, MPI_Request& request, int peer,
                               int64_t expected_bytes) {
  BoundedWait waiting(timeout_s_, kRest, watchdog_,
                      "for another rank (it is late or gone). Look at its log.");
  MPI_Status status;
  for (int polls = 0, done = 0;; ++polls) {
    FWL_MPI(MPI_Test(&request, &done, &status));
    if (done) break;
    if (polls >= kSpins) waiting.rest(operation);
  }
  if (expected_bytes < 0) return;
  int received = 0;
  FWL_MPI(MPI_Get_count(&status, MPI_BYTE, &received));
  require<CommError>(received == expected_bytes, operation.what, " (operation ", operation.number,
                     " of its group) on rank ", rank_, " expected ", expected_bytes, " bytes from rank ",
                     peer, ", got ", received,
                     " (the ranks disagree on a shape). Start all ranks with the same config and program.");
}

void MpiCommunicator::wait_for_own(const char* what, const std::function<bool()>& is_done) {
  if (watchdog_ == nullptr) return Communicator::wait_for_own(what, is_done);
  BoundedWait waiting(std::numeric_limits<double>::infinity(), kOwnRest, watchdog_, "");
  const Operation next = watchdog_->next(group_, what);
  guarded([&] {
    while (!is_done()) waiting.rest(next);
  });
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
      wait_for(operation_, receives[i % 2], left, segment_bytes(in.bytes, i));
      arrived(in.data + i * kSegmentBytes, place(i), segment_bytes(in.bytes, i));
    }
    if (i < to_send) wait_for(operation_, sends[i % 2], right, -1);
  }
}

// Ring all-gather: in step s this rank passes on block first_sent - s, and receives the one before it.
void MpiCommunicator::gather_ring(const std::vector<Block>& blocks, int first_sent) {
  for (int step = 0; step < size_ - 1; ++step) {
    const int sent = (first_sent - step + size_) % size_;
    const int received = (sent - 1 + size_) % size_;
    pass_to_the_right(blocks[sent], blocks[received], nullptr, [](std::byte*, std::byte*, int64_t) {});
  }
}

// All-gather of Bruck and others (1997): after step k this rank has the blocks of 2^(k+1) ranks, its own and
// those after it. It sends them 2^k ranks to the left while as many come from the right, and turns them into
// rank order at the end.
void MpiCommunicator::gather_in_doubling_steps(const Tensor& out, const Tensor& in) {
  const int64_t bytes = size_in_bytes(in);
  const Tensor blocks = at::empty({size_ * bytes}, at::kByte);  // block i is of rank rank_ + i
  buffers_.push_back(blocks);
  std::byte* own = bytes_of(blocks);
  std::memcpy(own, in.data_ptr(), static_cast<size_t>(bytes));
  for (int have = 1; have < size_; have *= 2) {
    const int64_t moved = std::min(have, size_ - have) * bytes;
    const int left = neighbour(-have), right = neighbour(have);
    std::array<MPI_Request, 2> requests;
    // Blocks of 64 KiB of all ranks fit an int of bytes up to 32,000 ranks.
    FWL_MPI(MPI_Irecv(own + have * bytes, static_cast<int>(moved), MPI_BYTE, right, kRingTag, comm_,
                      &requests[0]));
    FWL_MPI(MPI_Isend(own, static_cast<int>(moved), MPI_BYTE, left, kRingTag, comm_, &requests[1]));
    wait_for(operation_, requests[0], right, moved);
    wait_for(operation_, requests[1], left, -1);
  }
  const int64_t to_end = (size_ - rank_) * bytes;  // blocks of ranks rank_ .. size_ - 1
  std::memcpy(bytes_of(out) + rank_ * bytes, own, static_cast<size_t>(to_end));
  std::memcpy(bytes_of(out), own + to_end, static_cast<size_t>(rank_ * bytes));
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
  wait_for(operation_, request, kAnyPeer, -1);
}

void MpiCommunicator::reduce(const Tensor& tensor) {
  if (tensor.numel() == 0) return;
  if (size_in_bytes(tensor) <= kMpiSmallBytes) return reduce_small(tensor);
  if (tensor.scalar_type() == at::kFloat) return reduce_ring<float>(tensor);
  if (tensor.scalar_type() == at::kDouble) return reduce_ring<double>(tensor);
  reduce_ring<int64_t>(tensor);
}

TransferPtr MpiCommunicator::start_all_reduce_sum(Tensor tensor, const char* purpose) {
  check_on_device("all_reduce_sum", tensor, at::kCPU);
  check_summable("all_reduce_sum", tensor);
  const std::string what = cat("all_reduce_sum of ", purpose);
  // bfloat16 is rounded once, after the sum: partial sums in it would lose a bit per rank.
  const bool narrow = tensor.scalar_type() == at::kBFloat16;
  const Tensor sums = narrow ? tensor.to(at::kFloat) : tensor;
  const int64_t bytes = size_in_bytes(sums);
  count(&TrafficCounters::all_reduce, purpose,
        bytes > kMpiSmallBytes
            ? all_reduce_bytes(sums.numel(), static_cast<int64_t>(sums.element_size()), rank_, size_)
            : bytes);
  TransferPtr done = run(what, {sums}, [&] { reduce(sums); });
  if (narrow) tensor.copy_(sums);
  return done;
}

TransferPtr MpiCommunicator::start_broadcast(Tensor tensor, int root, const char* purpose) {
  check_on_device("broadcast", tensor, at::kCPU);
  check_root("broadcast", root, size_);
  const int64_t bytes = size_in_bytes(tensor);
  count(&TrafficCounters::broadcast, purpose, rank_ == root ? bytes : 0);
  return run(cat("broadcast of ", purpose), {tensor}, [&] {
    for (int64_t done = 0; done < bytes; done += kBroadcastPieceBytes) {
      MPI_Request request;
      FWL_MPI(MPI_Ibcast(bytes_of(tensor) + done,
                         static_cast<int>(std::min(kBroadcastPieceBytes, bytes - done)), MPI_BYTE, root,
                         comm_, &request));
      wait_for(operation_, request, kAnyPeer, -1);
    }
  });
}

TransferPtr MpiCommunicator::start_all_gather(Tensor out, Tensor in, const char* purpose) {
  check_on_device("all_gather", out, at::kCPU);
  check_on_device("all_gather", in, at::kCPU);
  check_gather("all_gather", out, in, size_);
  const int64_t bytes = size_in_bytes(in);
  const std::string what = cat("all_gather of ", purpose);
  const bool few_messages = bytes <= kMpiSmallBytes && purpose == std::string_view(purpose::kControl);
  count(&TrafficCounters::all_gather, purpose, (size_ - 1) * bytes,
        bytes == 0     ? 0
        : few_messages ? doubling_steps(size_)
                       : size_ - 1);
  if (bytes == 0) return run(what, {}, [] {});
  if (few_messages) return run(what, {out, in}, [&] { gather_in_doubling_steps(out, in); });
  std::byte* own = bytes_of(out) + rank_ * bytes;
  if (own != bytes_of(in)) std::memmove(own, in.data_ptr(), static_cast<size_t>(bytes));
  std::vector<Message> sends, receives = parts_of(out);
  receives.erase(receives.begin() + rank_);
  // The copy in `out` is sent: the caller may change `in`.
  for (const Message& m : receives) sends.push_back({m.peer, out.view({size_, -1})[rank_]});
  return post(what, sends, receives, {});
}

TransferPtr MpiCommunicator::start_all_to_all(Tensor out, Tensor in, const char* purpose) {
  check_on_device("all_to_all", out, at::kCPU);
  check_on_device("all_to_all", in, at::kCPU);
  check_parts("all_to_all", out, in, size_);
  count(&TrafficCounters::all_to_all, purpose, size_in_bytes(in) / size_ * (size_ - 1), size_ - 1);
  return post(cat("all_to_all of ", purpose), parts_of(in), parts_of(out), {});
}

// Every part goes straight to the rank that sums it, in rank order and in the accumulation type.
TransferPtr MpiCommunicator::start_reduce_scatter_sum(Tensor out, Tensor in, const char* purpose) {
  check_on_device("reduce_scatter_sum", out, at::kCPU);
  check_on_device("reduce_scatter_sum", in, at::kCPU);
  check_gather("reduce_scatter_sum", in, out, size_);
  check_summable("reduce_scatter_sum", in);
  count(&TrafficCounters::reduce_scatter, purpose, (size_ - 1) * size_in_bytes(out), size_ - 1);
  const Tensor parts = at::empty_like(in);
  const int size = size_;
  return post(cat("reduce_scatter_sum of ", purpose), parts_of(in), parts_of(parts), [out, parts, size] {
    const Tensor rows = parts.view({size, -1});
    const bool narrow = parts.scalar_type() == at::kBFloat16;
    Tensor sum = narrow ? rows[0].to(at::kFloat) : rows[0].clone();
    for (int r = 1; r < size; ++r) sum.add_(rows[r]);
    out.view({-1}).copy_(sum);
  });
}

TransferPtr MpiCommunicator::start_exchange(const std::vector<Message>& sends,
                                            const std::vector<Message>& receives, const char* purpose) {
  check_messages("exchange", sends, receives, size_);
  int64_t bytes = 0, messages = 0;
  for (const Message& m : sends) {
    if (m.peer == rank_) continue;
    bytes += size_in_bytes(m.tensor);
    ++messages;
  }
  count(&TrafficCounters::exchange, purpose, bytes, messages);
  return post(cat("exchange of ", purpose), sends, receives, {});
}

void MpiCommunicator::barrier() {
  count(&TrafficCounters::barrier, purpose::kControl, 0);
  run("barrier", {}, [&] {
    MPI_Request request;
    FWL_MPI(MPI_Ibarrier(comm_, &request));
    wait_for(operation_, request, kAnyPeer, -1);
  });
}

}  // namespace fwl
