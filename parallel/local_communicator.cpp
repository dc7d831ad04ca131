#include "parallel/communicator.h"
#include "parallel/tensor_checks.h"

namespace fwl {
namespace {

class LocalCommunicator final : public Communicator {
 public:
  explicit LocalCommunicator(at::Device device) : device_(device) {}
  int rank() const override { return 0; }
  int size() const override { return 1; }
  const char* name() const override { return "local"; }
  at::Device device() const override { return device_; }

  TransferPtr start_all_reduce_sum(Tensor tensor, const char* purpose) override {
    check_movable("all_reduce_sum", tensor);
    check_summable("all_reduce_sum", tensor);
    return done(&TrafficCounters::all_reduce, purpose);
  }

  TransferPtr start_broadcast(Tensor tensor, int root, const char* purpose) override {
    check_movable("broadcast", tensor);
    check_root("broadcast", root, size());
    return done(&TrafficCounters::broadcast, purpose);
  }

  TransferPtr start_all_gather(Tensor out, Tensor in, const char* purpose) override {
    check_gather("all_gather", out, in, size());
    return copied(out, in, &TrafficCounters::all_gather, purpose);
  }

  TransferPtr start_all_to_all(Tensor out, Tensor in, const char* purpose) override {
    check_parts("all_to_all", out, in, size());
    return copied(out, in, &TrafficCounters::all_to_all, purpose);
  }

  TransferPtr start_reduce_scatter_sum(Tensor out, Tensor in, const char* purpose) override {
    check_gather("reduce_scatter_sum", in, out, size());
    check_summable("reduce_scatter_sum", in);
    return copied(out, in, &TrafficCounters::reduce_scatter, purpose);
  }

  TransferPtr start_exchange(const std::vector<Message>& sends, const std::vector<Message>& receives,
                             const char* purpose) override {
    check_messages("exchange", sends, receives, size());
    for (size_t i = 0; i < sends.size(); ++i) receives[i].tensor.view({-1}).copy_(sends[i].tensor.view({-1}));
    return done(&TrafficCounters::exchange, purpose);
  }

  void barrier() override { ++traffic_.barrier.calls; }

 private:
  struct Done final : Transfer {
    void wait() override {}
  };

  TransferPtr done(OperationTraffic TrafficCounters::*verb, const char* purpose) {
    count(verb, purpose, 0);
    return std::make_unique<Done>();
  }
  TransferPtr copied(const Tensor& out, const Tensor& in, OperationTraffic TrafficCounters::*verb,
                     const char* purpose) {
    check_movable("copy", out);
    check_movable("copy", in);
    out.view({-1}).copy_(in.view({-1}));
    return done(verb, purpose);
  }

  at::Device device_;
};

}  // namespace

std::unique_ptr<Communicator> make_local_communicator(at::Device device) {
  return std::make_unique<LocalCommunicator>(device);
}

}  // namespace fwl
