#include "launch/traffic_plan.h"

#include <algorithm>

#include "core/base/device.h"
#include "launch/carried_size.h"
#include "launch/step_gradient.h"
#include "parallel/traffic.h"

namespace fwl {
namespace {

// Of gradients alone: a sharded optimizer also gathers the weights, which are counted apart.
int64_t gradient_bytes(const RunConfig& c, int rank, int ranks, int64_t parameters, Backend backend) {
  if (ranks == 1) return 0;
  const int64_t element = c.train.dtype == "fp64" ? 8 : 4;
  const auto wire = reducer_options_of(c).wire;
  const int64_t scattered_element = wire ? static_cast<int64_t>(c10::elementSize(*wire)) : element;
  // MPI sums bfloat16 in float32.
  const int64_t summed_element = backend == Backend::kMpi ? element : scattered_element;
  const bool sharded = c.parallel.shard_optimizer;
  const int64_t fits = c.parallel.bucket_bytes() / element;
  const int64_t bucket = sharded ? std::max<int64_t>(1, part_elements(fits, ranks)) * ranks : fits;
  int64_t bytes = 0;
  for (int64_t first = 0; first < parameters; first += bucket) {
    const int64_t count = std::min(bucket, parameters - first);
    const int64_t part =
        sharded ? part_elements(count, ranks) : 0;  // by reduce-scatter; the rest by all-reduce
    const int64_t rest = count - part * ranks;
    const bool small = backend == Backend::kMpi && rest * summed_element <= kMpiSmallBytes;
    bytes += (ranks - 1) * part * scattered_element;
    bytes += small ? rest * summed_element : all_reduce_bytes(rest, summed_element, rank, ranks);
  }
  return bytes;
}

int64_t wire_bytes(const RunConfig& c) {
  return static_cast<int64_t>(c10::elementSize(sequence_exchange_of(c).state_wire));
}

StateAlgorithm state_algorithm(const RunConfig& c, int ranks, int64_t rows) {
  return choose_state_algorithm(c.parallel.state_exchange, ranks,
                                rows * state_size(c.model).elements * wire_bytes(c));
}

int64_t state_bytes(const RunConfig& c, int sequence_rank, int ranks, int64_t rows) {
  const StateSize size = state_size(c.model);
  const int64_t wire = wire_bytes(c);
  const int64_t accumulation = c.train.dtype == "fp64" ? 8 : 4;
  const StateAlgorithm algorithm = state_algorithm(c, ranks, rows);
  const auto one = [&](int64_t carry_bytes) {
    return state_exchange_bytes(algorithm, ranks, rows, size.elements, size.tensors, wire, carry_bytes);
  };
  // Forward with the carries, backward without; a stream's last rank sends its state to the first.
  const bool sends_on = c.train.stream && sequence_rank == ranks - 1;
  return c.model.fast_weight.inner_steps *
         (one(accumulation) + one(0) + (sends_on ? rows * size.elements * accumulation : 0));
}

int64_t attention_step_bytes(const RunConfig& c, int sequence_rank, int ranks, int64_t rows) {
  const ModelConfig& m = c.model;
  const AttentionAlgorithm algorithm =
      choose_attention_algorithm(c.parallel.attention, ranks, m.heads, m.window);
  const AttentionShape shape{rows, m.heads, m.context / ranks, m.width / m.heads,
                             static_cast<int64_t>(c10::elementSize(parse_dtype(c.train.dtype)))};
  const StreamMemory memory =
      c.train.stream && c.data.order == "packed" ? StreamMemory::kKept : StreamMemory::kNone;
  const int64_t forward = attention_bytes(algorithm, sequence_rank, ranks, shape, m.window, memory);
  const int64_t backward =
      algorithm == AttentionAlgorithm::kHalo ? halo_backward_bytes(sequence_rank, shape, m.window) : forward;
  return m.layers * (forward + backward);
}

int64_t first_micro_rows(const RunConfig& c, const MeshShape& shape) {
  const int64_t rows = c.train.global_batch / shape.data;
  return c.train.micro_batch > 0 ? std::min(c.train.micro_batch, rows) : rows;
}

}  // namespace

ExchangeNames exchanges_of(const RunConfig& c, const MeshShape& shape) {
  if (shape.sequence == 1) return {};
  ExchangeNames names;
  names.attention = name_of(
      choose_attention_algorithm(c.parallel.attention, shape.sequence, c.model.heads, c.model.window));
  if (c.model.fast_weight.learns())
    names.state = name_of(state_algorithm(c, shape.sequence, first_micro_rows(c, shape)));
  return names;
}

StepTraffic predicted_traffic(const RunConfig& c, const MeshShape& shape, int data_rank, int sequence_rank,
                              int64_t parameters, Backend backend) {
  StepTraffic traffic;
  traffic.gradients =
      gradient_bytes(c, data_rank * shape.sequence + sequence_rank, shape.ranks(), parameters, backend);
  if (shape.sequence == 1) return traffic;
  const int64_t rows = c.train.global_batch / shape.data;
  const int64_t micro = first_micro_rows(c, shape);
  for (int64_t done = 0; done < rows; done += micro) {
    const int64_t part = std::min(micro, rows - done);
    traffic.attention += attention_step_bytes(c, sequence_rank, shape.sequence, part);
    if (c.model.fast_weight.learns()) traffic.state += state_bytes(c, sequence_rank, shape.sequence, part);
  }
  return traffic;
}

StepTraffic counted_traffic(Mesh& mesh) {
  const auto sent = [](Communicator& group, const char* purpose) {
    const auto& by = group.traffic().by_purpose;
    const auto found = by.find(purpose);
    return found == by.end() ? int64_t{0} : found->second.bytes_sent;
  };
  return {sent(mesh.world(), purpose::kGradients), sent(mesh.sequence(), purpose::kAttention),
          sent(mesh.sequence(), purpose::kState)};
}

}  // namespace fwl
