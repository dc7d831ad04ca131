#include "parallel/nccl_communicator.h"

#include <exception>
#include <mutex>
#include <utility>

#include "parallel/bounded_wait.h"
#include "parallel/failure.h"
#include "parallel/nccl_check.h"
#include "parallel/session.h"
#include "parallel/software.h"
#include "parallel/tensor_checks.h"
#include "parallel/traffic.h"

namespace fwl {
namespace {

// Polls yield the core for this long, then sleep in between.
constexpr BoundedWait::Rest kRest{0.002, 20};

ncclDataType_t nccl_type(at::ScalarType type) {
  if (type == at::kFloat) return ncclFloat32;
  if (type == at::kDouble) return ncclFloat64;
  return type == at::kBFloat16 ? ncclBfloat16 : ncclInt64;
}

enum class EventKind { kPlain, kTimed };

// A CUDA event that lives as long as the object.
class Event {
 public:
  explicit Event(EventKind kind = EventKind::kPlain) {
    FWL_CUDA_CALL(cudaEventCreateWithFlags(
        &event_, kind == EventKind::kTimed ? cudaEventDefault : cudaEventDisableTiming));
  }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void record(cudaStream_t stream) { FWL_CUDA_CALL(cudaEventRecord(event_, stream)); }
  void make_wait(cudaStream_t stream) const { FWL_CUDA_CALL(cudaStreamWaitEvent(stream, event_, 0)); }
  bool passed() const {
    const cudaError_t state = cudaEventQuery(event_);
    if (state == cudaErrorNotReady) return false;
    FWL_CUDA_CALL(state);
    return true;
  }
  void synchronize() const { FWL_CUDA_CALL(cudaEventSynchronize(event_)); }
  double seconds_to(const Event& later) const {
    float milliseconds = 0;
    FWL_CUDA_CALL(cudaEventElapsedTime(&milliseconds, event_, later.event_));
    return milliseconds / 1e3;
  }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace

std::string nccl_version() {
  int code = 0;
  if (ncclGetVersion(&code) != ncclSuccess) return "unknown";
  return cat(code / 10000, ".", code / 100 % 100, ".", code % 100);
}

// When one operation ran on the group's stream, and when computation reached and passed its wait.
struct NcclCommunicator::Timing {
  Event begin{EventKind::kTimed}, end{EventKind::kTimed}, reached{EventKind::kTimed},
      passed{EventKind::kTimed};
  bool waited = false;
};

// What outlives the communicator: the watchdog may still ask about its operations when it is freed.
struct NcclCommunicator::Shared {
  Shared(ncclComm_t of, int on) : comm(of), device(on) {}
  std::mutex mutex;
  ncclComm_t comm;  // null once it is being freed
  const int device;
};

// An operation on the GPU, as the watchdog sees it.
class NcclCommunicator::Running final : public GpuOperation {
 public:
  explicit Running(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {}
  Phase phase() override {
    // The watchdog's thread would ask by way of a context on GPU 0.
    FWL_CUDA_CALL(cudaSetDevice(shared_->device));
    if (end.passed()) return Phase::kDone;
    const std::lock_guard lock(shared_->mutex);
    if (shared_->comm == nullptr) return Phase::kDone;
    ncclResult_t state = ncclSuccess;
    FWL_NCCL(shared_->comm, ncclCommGetAsyncError(shared_->comm, &state));
    FWL_NCCL(shared_->comm, state);
    return begin.passed() ? Phase::kRunning : Phase::kQueued;
  }
  Event begin, end;

 private:
  std::shared_ptr<Shared> shared_;
};

class NcclCommunicator::Pending final : public Transfer {
 public:
  Pending(std::vector<Tensor> tensors, std::shared_ptr<Running> running, std::shared_ptr<Timing> timing,
          Watchdog* watchdog, Operation operation, at::Device device)
      : tensors_(std::move(tensors)),
        running_(std::move(running)),
        timing_(std::move(timing)),
        watchdog_(watchdog),
        operation_(std::move(operation)),
        device_(device) {}

  void wait() override {
    const cudaStream_t current = c10::cuda::getCurrentCUDAStream(device_.index()).stream();
    if (timing_) timing_->reached.record(current);
    running_->end.make_wait(current);
    if (timing_) timing_->passed.record(current);
    if (timing_) timing_->waited = true;
    if (watchdog_ != nullptr) watchdog_->end(operation_);
    // Memory that the allocator reuses on the current stream is written after the wait.
    tensors_.clear();
  }

 private:
  std::vector<Tensor> tensors_;
  std::shared_ptr<Running> running_;
  std::shared_ptr<Timing> timing_;
  Watchdog* watchdog_;
  Operation operation_;
  at::Device device_;
};

NcclCommunicator::NcclCommunicator(const ncclUniqueId& id, const std::string& group,
                                   const std::vector<int>& members, int rank, int device, double timeout_s)
    : rank_(rank),
      size_(static_cast<int>(members.size())),
      device_(at::kCUDA, static_cast<c10::DeviceIndex>(device)),
      timeout_s_(timeout_s),
      watchdog_(watchdog()),
      stream_(c10::cuda::getStreamFromPool(/*isHighPriority=*/true, static_cast<c10::DeviceIndex>(device))),
      operation_{-1, 0, "set-up"} {
  FWL_CUDA_CALL(cudaSetDevice(device));
  if (watchdog_ != nullptr) {
    group_ = watchdog_->add_group(group, members, timeout_s);
    operation_.group = group_;
  }
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  try {
    FWL_NCCL(nullptr, ncclCommInitRankConfig(&comm_, size_, id, rank, &config));
    wait_for_host();
  } catch (...) {
    if (comm_ != nullptr) ncclCommAbort(comm_);
    throw;
  }
  shared_ = std::make_shared<Shared>(comm_, device);
  if (watchdog_ != nullptr) give_up_ = watchdog_->on_give_up([this] { ncclCommAbort(comm_); });
}

NcclCommunicator::~NcclCommunicator() {
  if (watchdog_ != nullptr) watchdog_->remove_give_up(give_up_);
  // A rank that unwinds must reach the end of the job, not wait here for peers that are in a collective.
  if (usable_ && std::uncaught_exceptions() == 0) {
    try {
      guarded([&] {
        Event reached;
        reached.record(stream_.stream());
        poll([&] {
          check_peers();
          return reached.passed();
        });
        FWL_NCCL(comm_, ncclCommFinalize(comm_));
        wait_for_host();
      });
      close();
      ncclCommDestroy(comm_);
      return;
    } catch (...) {
      // The job ends without this group; abort frees what is left of it.
    }
  }
  close();
  ncclCommAbort(comm_);
}

// Before it is freed: operations that are still under way are nobody's business from here on.
void NcclCommunicator::close() {
  const std::lock_guard lock(shared_->mutex);
  shared_->comm = nullptr;
}

// When something fails, the ranks' operations no longer match: the group is closed for good.
template <typename Body>
void NcclCommunicator::guarded(Body body) {
  try {
    body();
  } catch (const Error& error) {
    usable_ = false;
    report_failure(static_cast<int>(error.code()), error.what());
    throw;
  } catch (...) {
    usable_ = false;
    throw;
  }
}

template <typename Body>
TransferPtr NcclCommunicator::start(const std::string& what, std::vector<Tensor> tensors, Body body) {
  require<CommError>(
      usable_, what, " on rank ", rank_, " of ", size_, " after operation ", operation_.number, " (",
      operation_.what,
      ") failed (the ranks are no longer in step). End the job and restart it from its last checkpoint.");
  const int64_t number = operation_.number + 1;
  operation_ = watchdog_ != nullptr ? watchdog_->begin(group_, what) : Operation{-1, number, what};
  auto running = std::make_shared<Running>(shared_);
  std::shared_ptr<Timing> timing;
  if (timed_) timings_.push_back(timing = std::make_shared<Timing>());
  guarded([&] {
    running->begin.record(c10::cuda::getCurrentCUDAStream(device_.index()).stream());
    running->begin.make_wait(stream_.stream());
    if (timing) timing->begin.record(stream_.stream());
    const ncclResult_t result = body(stream_.stream());
    FWL_NCCL(comm_, result);
    if (result == ncclInProgress) wait_for_host();
    if (timing) timing->end.record(stream_.stream());
    running->end.record(stream_.stream());
  });
  if (watchdog_ != nullptr) watchdog_->watch(operation_, running);
  return std::make_unique<Pending>(std::move(tensors), running, timing, watchdog_, operation_, device_);
}

TransferTimes NcclCommunicator::take_times() {
  timed_ = true;
  TransferTimes times;
  for (const auto& t : std::exchange(timings_, {})) {
    if (!t->waited) continue;
    t->passed.synchronize();
    t->end.synchronize();
    times.total_s += t->begin.seconds_to(t->end);
    times.exposed_s += t->reached.seconds_to(t->passed);
  }
  return times;
}

template <typename Done>
void NcclCommunicator::poll(Done done) {
  BoundedWait waiting(timeout_s_, kRest, watchdog_,
                      "for this GPU (it hangs). Restart the job from its last checkpoint.");
  while (!done()) waiting.rest(operation_);
}

void NcclCommunicator::wait_for_host() {
  poll([&] {
    ncclResult_t state = ncclSuccess;
    FWL_NCCL(comm_, ncclCommGetAsyncError(comm_, &state));
    FWL_NCCL(comm_, state);
    return state != ncclInProgress;
  });
}

// Also sees peers that died: their absence is an asynchronous error of the communicator.
void NcclCommunicator::check_peers() {
  ncclResult_t state = ncclSuccess;
  FWL_NCCL(comm_, ncclCommGetAsyncError(comm_, &state));
  FWL_NCCL(comm_, state);
}

TransferPtr NcclCommunicator::start_all_reduce_sum(Tensor tensor, const char* purpose) {
  check_on_device("all_reduce_sum", tensor, device_);
  check_summable("all_reduce_sum", tensor);
  count(&TrafficCounters::all_reduce, purpose,
        all_reduce_bytes(tensor.numel(), static_cast<int64_t>(tensor.element_size()), rank_, size_));
  return start(cat("all_reduce_sum of ", purpose), {tensor}, [&](cudaStream_t stream) {
    if (tensor.numel() == 0) return ncclSuccess;
    return ncclAllReduce(tensor.data_ptr(), tensor.data_ptr(), static_cast<size_t>(tensor.numel()),
                         nccl_type(tensor.scalar_type()), ncclSum, comm_, stream);
  });
}

TransferPtr NcclCommunicator::start_broadcast(Tensor tensor, int root, const char* purpose) {
  check_on_device("broadcast", tensor, device_);
  check_root("broadcast", root, size_);
  count(&TrafficCounters::broadcast, purpose, rank_ == root ? static_cast<int64_t>(tensor.nbytes()) : 0);
  return start(cat("broadcast of ", purpose), {tensor}, [&](cudaStream_t stream) {
    if (tensor.numel() == 0) return ncclSuccess;
    return ncclBroadcast(tensor.data_ptr(), tensor.data_ptr(), tensor.nbytes(), ncclUint8, root, comm_,
                         stream);
  });
}

TransferPtr NcclCommunicator::start_all_gather(Tensor out, Tensor in, const char* purpose) {
  check_on_device("all_gather", out, device_);
  check_on_device("all_gather", in, device_);
  check_gather("all_gather", out, in, size_);
  count(&TrafficCounters::all_gather, purpose, (size_ - 1) * static_cast<int64_t>(in.nbytes()));
  return start(cat("all_gather of ", purpose), {out, in}, [&](cudaStream_t stream) {
    if (in.numel() == 0) return ncclSuccess;
    return ncclAllGather(in.data_ptr(), out.data_ptr(), in.nbytes(), ncclUint8, comm_, stream);
  });
}

TransferPtr NcclCommunicator::start_all_to_all(Tensor out, Tensor in, const char* purpose) {
  check_on_device("all_to_all", out, device_);
  check_on_device("all_to_all", in, device_);
  check_parts("all_to_all", out, in, size_);
  const size_t part = in.nbytes() / static_cast<size_t>(size_);
  count(&TrafficCounters::all_to_all, purpose, static_cast<int64_t>(part) * (size_ - 1));
  return start(cat("all_to_all of ", purpose), {out, in}, [&](cudaStream_t stream) {
    if (part == 0) return ncclSuccess;
    FWL_NCCL(comm_, ncclGroupStart());
    for (int r = 0; r < size_; ++r) {
      const size_t offset = part * static_cast<size_t>(r);
      FWL_NCCL(comm_,
               ncclSend(static_cast<const char*>(in.data_ptr()) + offset, part, ncclUint8, r, comm_, stream));
      FWL_NCCL(comm_,
               ncclRecv(static_cast<char*>(out.data_ptr()) + offset, part, ncclUint8, r, comm_, stream));
    }
    return ncclGroupEnd();
  });
}

TransferPtr NcclCommunicator::start_reduce_scatter_sum(Tensor out, Tensor in, const char* purpose) {
  check_on_device("reduce_scatter_sum", out, device_);
  check_on_device("reduce_scatter_sum", in, device_);
  check_gather("reduce_scatter_sum", in, out, size_);
  check_summable("reduce_scatter_sum", in);
  count(&TrafficCounters::reduce_scatter, purpose, (size_ - 1) * static_cast<int64_t>(out.nbytes()));
  return start(cat("reduce_scatter_sum of ", purpose), {out, in}, [&](cudaStream_t stream) {
    if (out.numel() == 0) return ncclSuccess;
    return ncclReduceScatter(in.data_ptr(), out.data_ptr(), static_cast<size_t>(out.numel()),
                             nccl_type(in.scalar_type()), ncclSum, comm_, stream);
  });
}

TransferPtr NcclCommunicator::start_exchange(const std::vector<Message>& sends,
                                             const std::vector<Message>& receives, const char* purpose) {
  check_messages("exchange", sends, receives, size_);
  int64_t bytes = 0;
  std::vector<Tensor> tensors;
  for (const auto* messages : {&sends, &receives})
    for (const Message& m : *messages) {
      check_on_device("exchange", m.tensor, device_);
      tensors.push_back(m.tensor);
    }
  for (const Message& m : sends) bytes += m.peer == rank_ ? 0 : static_cast<int64_t>(m.tensor.nbytes());
  count(&TrafficCounters::exchange, purpose, bytes);
  return start(cat("exchange of ", purpose), std::move(tensors), [&](cudaStream_t stream) {
    if (sends.empty() && receives.empty()) return ncclSuccess;
    FWL_NCCL(comm_, ncclGroupStart());
    for (const Message& m : sends)
      FWL_NCCL(comm_, ncclSend(m.tensor.data_ptr(), m.tensor.nbytes(), ncclUint8, m.peer, comm_, stream));
    for (const Message& m : receives)
      FWL_NCCL(comm_, ncclRecv(m.tensor.data_ptr(), m.tensor.nbytes(), ncclUint8, m.peer, comm_, stream));
    return ncclGroupEnd();
  });
}

void NcclCommunicator::barrier() {
  count(&TrafficCounters::barrier, purpose::kControl, 0);
  const Tensor token = at::ones({1}, at::TensorOptions().dtype(at::kFloat).device(device_));
  start("barrier", {token}, [&](cudaStream_t stream) {
    return ncclAllReduce(token.data_ptr(), token.data_ptr(), 1, ncclFloat32, ncclSum, comm_, stream);
  })->wait();
  guarded([&] {
    Event reached;
    reached.record(c10::cuda::getCurrentCUDAStream(device_.index()).stream());
    poll([&] {
      check_peers();
      return reached.passed();
    });
  });
}

std::unique_ptr<Communicator> make_world_nccl_communicator(int device_index, double timeout_s) {
  return make_axis_nccl_communicator(0, "world", device_index, timeout_s);
}

// The id travels over the axis's MPI communicator, which also numbers the ranks.
std::unique_ptr<Communicator> make_axis_nccl_communicator(int color, const std::string& name,
                                                          int device_index, double timeout_s) {
  const auto host = make_axis_communicator(color, name, timeout_s);
  ncclUniqueId id;
  if (host->rank() == 0) FWL_NCCL(nullptr, ncclGetUniqueId(&id));
  host->broadcast(at::from_blob(id.internal, {NCCL_UNIQUE_ID_BYTES}, at::kByte), 0);
  const Tensor own = at::full({1}, static_cast<int64_t>(world().rank), at::kLong);
  const Tensor all = at::empty({host->size()}, at::kLong);
  host->all_gather(all, own);
  const int64_t* ranks = all.const_data_ptr<int64_t>();
  return std::make_unique<NcclCommunicator>(id, cat(name, " (nccl)"),
                                            std::vector<int>(ranks, ranks + all.numel()), host->rank(),
                                            device_index, timeout_s);
}

}  // namespace fwl
