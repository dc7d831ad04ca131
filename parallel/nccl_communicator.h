// Collectives on GPU tensors over NCCL, on a stream of the group's own: an operation starts when the work
// that was on LibTorch's current stream is done, and wait() lets the current stream wait for it. The host
// waits for neither.
//
// The communicator is non-blocking: what NCCL does on the host (set-up, first connections) is polled and
// bounded by the timeout. What it does on the GPU is looked after by the watchdog, which ends the job when an
// operation runs longer than the timeout or a peer is gone.
#pragma once

#include <c10/cuda/CUDAStream.h>
#include <nccl.h>

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "parallel/communicator.h"
#include "parallel/watchdog.h"

namespace fwl {

class NcclCommunicator final : public Communicator {
 public:
  // Collective over the ranks that share `id`. Makes `device` this thread's current GPU. `group` names it in
  // messages; `members` are its world ranks.
  NcclCommunicator(const ncclUniqueId& id, const std::string& group, const std::vector<int>& members,
                   int rank, int device, double timeout_s);
  // Collective when all is well; local, without a wait for peers, after a CommError or while an exception
  // unwinds.
  ~NcclCommunicator() override;
  NcclCommunicator(const NcclCommunicator&) = delete;
  NcclCommunicator& operator=(const NcclCommunicator&) = delete;

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  const char* name() const override { return "nccl"; }
  at::Device device() const override { return device_; }
  TransferTimes take_times() override;
  TransferPtr start_all_reduce_sum(Tensor tensor, const char* purpose) override;
  TransferPtr start_broadcast(Tensor tensor, int root, const char* purpose) override;
  TransferPtr start_all_gather(Tensor out, Tensor in, const char* purpose) override;
  TransferPtr start_all_to_all(Tensor out, Tensor in, const char* purpose) override;
  TransferPtr start_reduce_scatter_sum(Tensor out, Tensor in, const char* purpose) override;
  TransferPtr start_exchange(const std::vector<Message>& sends, const std::vector<Message>& receives,
                             const char* purpose) override;
  void barrier() override;

 private:
  class Running;
  class Pending;
  struct Shared;
  struct Timing;

  // Enqueues `body` on the group's stream as one operation.
  template <typename Body>
  TransferPtr start(const std::string& what, std::vector<Tensor> tensors, Body body);
  template <typename Body>
  void guarded(Body body);
  void wait_for_host();
  template <typename Done>
  void poll(Done done);
  void check_peers();
  void close();

  int rank_, size_;
  at::Device device_;
  double timeout_s_;
  Watchdog* watchdog_;
  int group_ = -1;    // as the watchdog numbers it
  int give_up_ = -1;  // as the watchdog numbers it
  ncclComm_t comm_ = nullptr;
  std::shared_ptr<Shared> shared_;  // with the watchdog's thread
  c10::cuda::CUDAStream stream_;
  Operation operation_;  // entered last
  bool usable_ = true;
  bool timed_ = false;
  std::deque<std::shared_ptr<Timing>> timings_;
};

}  // namespace fwl
