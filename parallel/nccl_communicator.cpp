#include "parallel/nccl_communicator.h"

#include <c10/cuda/CUDAStream.h>
#include <sched.h>

#include <chrono>
#include <exception>
#include <thread>

#include "parallel/nccl_check.h"
#include "parallel/session.h"
#include "parallel/tensor_checks.h"

namespace fwl {
namespace {

using Clock = std::chrono::steady_clock;

// Polls yield the core for this long, then sleep in between.
constexpr double kYieldFor_s = 0.002;
constexpr std::chrono::microseconds kNap(20);

ncclDataType_t nccl_type(at::ScalarType type) {
  if (type == at::kFloat) return ncclFloat32;
  if (type == at::kDouble) return ncclFloat64;
  return type == at::kBFloat16 ? ncclBfloat16 : ncclInt64;
}

// An event that lives as long as the object; timing is off, which makes querying it cheap.
class Event {
 public:
  explicit Event(cudaStream_t stream) {
    FWL_CUDA_CALL(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming));
    FWL_CUDA_CALL(cudaEventRecord(event_, stream));
  }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  bool passed() const {
    const cudaError_t state = cudaEventQuery(event_);
    if (state == cudaErrorNotReady) return false;
    FWL_CUDA_CALL(state);
    return true;
  }

 private:
  cudaEvent_t event_ = nullptr;
};

}  // namespace

NcclCommunicator::NcclCommunicator(const ncclUniqueId& id, int rank, int size, int device, double timeout_s)
    : rank_(rank),
      size_(size),
      device_(at::kCUDA, static_cast<c10::DeviceIndex>(device)),
      timeout_s_(timeout_s) {
  FWL_CUDA_CALL(cudaSetDevice(device));
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  operation_ = "set-up";
  try {
    FWL_NCCL(nullptr, ncclCommInitRankConfig(&comm_, size, id, rank, &config));
    wait_for_host();
  } catch (...) {
    if (comm_ != nullptr) ncclCommAbort(comm_);
    throw;
  }
}

NcclCommunicator::~NcclCommunicator() {
  // A rank that unwinds must reach the end of the job, not wait here for peers that are in a collective.
  if (usable_ && std::uncaught_exceptions() == 0) {
    try {
      run("tear-down", [&] {
        wait_for_stream();
        FWL_NCCL(comm_, ncclCommFinalize(comm_));
        wait_for_host();
      });
      ncclCommDestroy(comm_);
      return;
    } catch (...) {
      // The job ends without this group; abort frees what is left of it.
    }
  }
  ncclCommAbort(comm_);
}

cudaStream_t NcclCommunicator::stream() const {
  return c10::cuda::getCurrentCUDAStream(device_.index()).stream();
}

// Runs one collective. When it fails, the ranks' operations no longer match: the group is closed for good.
template <typename Body>
void NcclCommunicator::run(const char* operation, Body body) {
  require<CommError>(
      usable_, operation, " on rank ", rank_, " of ", size_, " after operation ", operations_, " (",
      operation_,
      ") failed (the ranks are no longer in step). End the job and restart it from its last checkpoint.");
  operation_ = operation;
  ++operations_;
  try {
    body();
  } catch (...) {
    usable_ = false;
    throw;
  }
}

template <typename Done>
void NcclCommunicator::poll(Done done) {
  const Clock::time_point start = Clock::now();
  while (!done()) {
    const double elapsed_s = std::chrono::duration<double>(Clock::now() - start).count();
    require<CommError>(elapsed_s < timeout_s_, operation_, " (operation ", operations_,
                       " of its group) on rank ", rank_, " of ", size_, " waited ", elapsed_s,
                       " s for the other ranks' GPUs (a rank is late, hangs or is gone). Look at "
                       "the other ranks' logs; raise parallel.timeout_s when they only needed more time.");
    if (elapsed_s < kYieldFor_s) {
      sched_yield();
    } else {
      std::this_thread::sleep_for(kNap);
    }
  }
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
void NcclCommunicator::wait_for_stream() {
  const Event reached(stream());
  poll([&] {
    check_peers();
    return reached.passed();
  });
}

void NcclCommunicator::check_peers() {
  ncclResult_t state = ncclSuccess;
  FWL_NCCL(comm_, ncclCommGetAsyncError(comm_, &state));
  FWL_NCCL(comm_, state);
}

void NcclCommunicator::enqueued(ncclResult_t result) {
  FWL_NCCL(comm_, result);
  if (result == ncclInProgress) wait_for_host();
}

void NcclCommunicator::all_reduce_sum(Tensor tensor) {
  check_on_device("all_reduce_sum", tensor, device_);
  check_summable("all_reduce_sum", tensor);
  ++traffic_.all_reduce.calls;
  traffic_.all_reduce.bytes_sent += 2 * (size_ - 1) * static_cast<int64_t>(tensor.nbytes()) / size_;
  run("all_reduce_sum", [&] {
    if (tensor.numel() == 0) return;
    enqueued(ncclAllReduce(tensor.data_ptr(), tensor.data_ptr(), static_cast<size_t>(tensor.numel()),
                           nccl_type(tensor.scalar_type()), ncclSum, comm_, stream()));
  });
}

void NcclCommunicator::broadcast(Tensor tensor, int root) {
  check_on_device("broadcast", tensor, device_);
  check_root("broadcast", root, size_);
  ++traffic_.broadcast.calls;
  if (rank_ == root) traffic_.broadcast.bytes_sent += static_cast<int64_t>(tensor.nbytes());
  run("broadcast", [&] {
    if (tensor.numel() == 0) return;
    enqueued(ncclBroadcast(tensor.data_ptr(), tensor.data_ptr(), tensor.nbytes(), ncclUint8, root, comm_,
                           stream()));
  });
}

void NcclCommunicator::all_gather(Tensor out, Tensor in) {
  check_on_device("all_gather", out, device_);
  check_on_device("all_gather", in, device_);
  check_gather("all_gather", out, in, size_);
  ++traffic_.all_gather.calls;
  traffic_.all_gather.bytes_sent += (size_ - 1) * static_cast<int64_t>(in.nbytes());
  run("all_gather", [&] {
    if (in.numel() == 0) return;
    enqueued(ncclAllGather(in.data_ptr(), out.data_ptr(), in.nbytes(), ncclUint8, comm_, stream()));
  });
}

void NcclCommunicator::barrier() {
  ++traffic_.barrier.calls;
  run("barrier", [&] {
    const Tensor token = at::ones({1}, at::TensorOptions().dtype(at::kFloat).device(device_));
    enqueued(ncclAllReduce(token.data_ptr(), token.data_ptr(), 1, ncclFloat32, ncclSum, comm_, stream()));
    wait_for_stream();
  });
}

std::unique_ptr<Communicator> make_world_nccl_communicator(int device_index, double timeout_s) {
  const Placement& place = world();
  ncclUniqueId id;
  if (place.rank == 0) FWL_NCCL(nullptr, ncclGetUniqueId(&id));
  const Tensor bytes = at::from_blob(id.internal, {NCCL_UNIQUE_ID_BYTES}, at::kByte);
  make_world_communicator(timeout_s)->broadcast(bytes, 0);
  return std::make_unique<NcclCommunicator>(id, place.rank, place.size, device_index, timeout_s);
}

}  // namespace fwl
