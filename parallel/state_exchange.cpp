#include "parallel/state_exchange.h"

#include <algorithm>

#include "core/base/autograd.h"
#include "core/base/error.h"

namespace fwl {
namespace {

constexpr int64_t kSmallState_bytes = 256 * 1024;
constexpr int64_t kAlignment = 16;

int64_t aligned(int64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

// Columns of each of `blocks` blocks: together at least `columns`, and whole runs of 16 bytes even in
// bfloat16, where messages are copied fast.
int64_t block_columns(int64_t columns, int64_t blocks) {
  constexpr int64_t kRun = kAlignment / 2;
  return ((columns + blocks - 1) / blocks + kRun - 1) / kRun * kRun;
}

// Columns of the flattened states of one sequence that belong to one fast tensor (one carry).
struct Segment {
  int64_t first, count;
};

// sum_bs <- carry * sum_bs + addend_bs, per fast tensor. The columns are [first, first + sum's) of the
// flattened states.
void step(const Tensor& sum_bs, const Tensor& addend_bs, const Tensor& carry_bn,
          const std::vector<Segment>& segments, int64_t first) {
  const int64_t end = first + sum_bs.size(1);
  for (size_t n = 0; n < segments.size(); ++n) {
    const int64_t from = std::max(first, segments[n].first);
    const int64_t to = std::min(end, segments[n].first + segments[n].count);
    if (from >= to) continue;
    Tensor part = sum_bs.narrow(1, from - first, to - from);
    part.mul_(carry_bn.narrow(1, static_cast<int64_t>(n), 1));
    part.add_(addend_bs.narrow(1, from - first, to - from));
  }
}

enum class Direction { kPrefix, kSuffix };

// One exchange, forward and backward. Kept alive by the autograd graph.
class Exchange : public torch::CustomClassHolder {
 public:
  Exchange(Communicator& group, StateAlgorithm algorithm, at::ScalarType wire, std::vector<Segment> segments)
      : group_(group), algorithm_(algorithm), wire_(wire), segments_(std::move(segments)) {}

  // own_bs: this rank's states (or cotangents); own_carry_bn: sent in the forward, known in the backward.
  void start(Direction direction, const Tensor& own_bs, const Tensor& own_carry_bn) {
    direction_ = direction;
    type_ = own_bs.scalar_type();
    batch_ = own_bs.size(0);
    columns_ = own_bs.size(1);
    const int64_t blocks = algorithm_ == StateAlgorithm::kAllGather ? 1 : group_.size();
    block_ = block_columns(columns_, blocks);
    Tensor wire_bs = own_bs.to(wire_);
    if (block_ * blocks != columns_) wire_bs = at::constant_pad_nd(wire_bs, {0, block_ * blocks - columns_});
    const Tensor out = pack(wire_bs, own_carry_bn, blocks);
    received_ = at::empty({group_.size(), out.size(1)}, out.options());
    sent_ = out;
    transfer_ = algorithm_ == StateAlgorithm::kAllGather
                    ? group_.start_all_gather(received_, out, purpose::kState)
                    : group_.start_all_to_all(received_, out, purpose::kState);
  }

  // The exclusive prefix or suffix of this rank, [B, S].
  Tensor finish() {
    transfer_->wait();
    if (direction_ == Direction::kPrefix) unpack_carries();
    const Tensor result = algorithm_ == StateAlgorithm::kAllGather ? sum_own() : sum_blocks_and_return();
    sent_ = received_ = Tensor();
    transfer_.reset();
    return result;
  }

  const std::vector<Segment>& segments() const { return segments_; }
  Tensor inbound_bs;  // result of the forward, for the gradient of the carries

 private:
  // [blocks, bytes]: a block of states, and in the forward all carries behind it.
  Tensor pack(const Tensor& wire_bs, const Tensor& carry_bn, int64_t blocks) const {
    const Tensor states = wire_bs.view({batch_, blocks, block_})
                              .transpose(0, 1)
                              .contiguous()
                              .view({blocks, -1})
                              .view(at::kByte);
    if (direction_ == Direction::kSuffix) return states;
    const int64_t state_bytes = aligned(states.size(1));
    const Tensor carries = carry_bn.contiguous().view({1, -1}).view(at::kByte);
    Tensor out = at::empty({blocks, aligned(state_bytes + carries.size(1))}, states.options());
    out.narrow(1, 0, states.size(1)).copy_(states);
    out.narrow(1, state_bytes, carries.size(1)).copy_(carries.expand({blocks, -1}));
    return out;
  }

  void unpack_carries() {
    const int64_t element = static_cast<int64_t>(c10::elementSize(wire_));
    const int64_t offset = aligned(batch_ * block_ * element);
    const auto tensors = static_cast<int64_t>(segments_.size());
    const int64_t bytes = batch_ * tensors * static_cast<int64_t>(c10::elementSize(type_));
    carries_rbn_ = received_.narrow(1, offset, bytes).contiguous().view(type_).view({-1, batch_, tensors});
  }

  // States of rank r in this rank's block of columns, in the accumulation type.
  Tensor states_of(int64_t r) const {
    const int64_t bytes = batch_ * block_ * static_cast<int64_t>(c10::elementSize(wire_));
    return received_[r].narrow(0, 0, bytes).view(wire_).view({batch_, block_}).to(type_);
  }

  Tensor sum_own() const {
    const int64_t rank = group_.rank(), size = group_.size();
    Tensor sum_bs = at::zeros({batch_, columns_}, received_.options().dtype(type_));
    if (direction_ == Direction::kPrefix) {
      for (int64_t r = 0; r < rank; ++r) step(sum_bs, states_of(r), carries_rbn_[r], segments_, 0);
    } else {
      for (int64_t r = size - 1; r > rank; --r) step(sum_bs, states_of(r), carries_rbn_[r], segments_, 0);
    }
    return sum_bs;
  }

  // This rank's block of columns for every rank; then every rank gets its own states back.
  Tensor sum_blocks_and_return() {
    const int64_t size = group_.size(), first = group_.rank() * block_;
    Tensor sum_bs = at::zeros({batch_, block_}, received_.options().dtype(type_));
    Tensor back = at::empty({size, batch_, block_}, received_.options().dtype(wire_));
    for (int64_t i = 0; i < size; ++i) {
      const int64_t r = direction_ == Direction::kPrefix ? i : size - 1 - i;
      back[r].copy_(sum_bs);
      step(sum_bs, states_of(r), carries_rbn_[r], segments_, first);
    }
    Tensor mine = at::empty_like(back);
    group_.all_to_all(mine, back, purpose::kState);
    return mine.transpose(0, 1).reshape({batch_, size * block_}).narrow(1, 0, columns_).to(type_);
  }

  Communicator& group_;
  StateAlgorithm algorithm_;
  at::ScalarType wire_, type_ = at::kFloat;
  std::vector<Segment> segments_;
  Direction direction_ = Direction::kPrefix;
  int64_t batch_ = 0, columns_ = 0, block_ = 0;
  Tensor sent_, received_, carries_rbn_;
  TransferPtr transfer_;
};

c10::intrusive_ptr<Exchange> exchange_of(AutogradContext* ctx) {
  return c10::static_intrusive_pointer_cast<Exchange>(ctx->saved_data["exchange"].toCapsule());
}

// Two nodes, so that the backward too can compute between start and finish: autograd runs later nodes first,
// and the work that does not wait for the exchange was recorded between the two.
class Sent : public torch::autograd::Function<Sent> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& total_bs, const Tensor& carry_bn,
                        const c10::intrusive_ptr<Exchange>& exchange) {
    exchange->start(Direction::kPrefix, total_bs, carry_bn);
    ctx->saved_data["exchange"] = c10::IValue::make_capsule(exchange);
    return at::zeros({1}, total_bs.options());  // stands for what is on its way
  }

  // The cotangent of S_end(r) is the suffix sum R: total_bar = R, carry_bar = <R, S_in> per sequence and
  // tensor.
  static variable_list backward(AutogradContext* ctx, variable_list) {
    const auto exchange = exchange_of(ctx);
    const Tensor suffix_bs = exchange->finish();
    const Tensor& inbound_bs = exchange->inbound_bs;
    Tensor carry_bar_bn;
    if (ctx->needs_input_grad(1)) {
      std::vector<Tensor> products;
      for (const Segment& s : exchange->segments()) {
        // Rows first, so that no copy in float64 is made of a whole state; terms cancel.
        const Tensor product_bs =
            suffix_bs.narrow(1, s.first, s.count) * inbound_bs.narrow(1, s.first, s.count);
        const int64_t rows = s.count % 64 == 0 ? s.count / 64 : 1;
        products.push_back(product_bs.view({product_bs.size(0), rows, -1})
                               .sum(2)
                               .to(at::kDouble)
                               .sum(1)
                               .to(suffix_bs.scalar_type()));
      }
      carry_bar_bn = at::stack(products, 1);
    }
    return {suffix_bs, carry_bar_bn, Tensor()};
  }
};

class Received : public torch::autograd::Function<Received> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor&, const c10::intrusive_ptr<Exchange>& exchange) {
    ctx->saved_data["exchange"] = c10::IValue::make_capsule(exchange);
    const Tensor inbound_bs = exchange->finish();
    exchange->inbound_bs = inbound_bs.detach();
    return inbound_bs;
  }

  static variable_list backward(AutogradContext* ctx, variable_list bars) {
    exchange_of(ctx)->start(Direction::kSuffix, bars[0], {});
    return {at::zeros({1}, bars[0].options()), Tensor()};
  }
};

class PrefixExchange final : public StateExchange {
 public:
  PrefixExchange(Communicator& group, std::string algorithm, at::ScalarType wire)
      : group_(group), algorithm_(std::move(algorithm)), wire_(wire) {}

  void start(const std::vector<ShardState>& shards) override {
    std::vector<Tensor> totals, carries;
    std::vector<Segment> segments;
    shapes_.clear();
    int64_t first = 0;
    const int64_t batch = shards.front().total_bvk.size(0);
    for (const ShardState& s : shards) {
      totals.push_back(s.total_bvk.flatten(1));
      carries.push_back(s.carry_b11.flatten().expand({batch}));
      segments.push_back({first, totals.back().size(1)});
      first += totals.back().size(1);
      shapes_.push_back(s.total_bvk.sizes().vec());
    }
    segments_ = segments;
    const int64_t state_bytes = batch * first * static_cast<int64_t>(c10::elementSize(wire_));
    exchange_ = c10::make_intrusive<Exchange>(
        group_, choose_state_algorithm(algorithm_, group_.size(), state_bytes), wire_, segments);
    sent_ = Sent::apply(at::cat(totals, 1), at::stack(carries, 1), exchange_);
  }

  std::vector<Tensor> finish() override {
    const Tensor inbound_bs = Received::apply(sent_, exchange_);
    std::vector<Tensor> states;
    for (size_t i = 0; i < segments_.size(); ++i)
      states.push_back(inbound_bs.narrow(1, segments_[i].first, segments_[i].count).view(shapes_[i]));
    sent_ = Tensor();
    exchange_.reset();
    return states;
  }

 private:
  Communicator& group_;
  std::string algorithm_;
  at::ScalarType wire_;
  std::vector<Segment> segments_;
  std::vector<std::vector<int64_t>> shapes_;
  c10::intrusive_ptr<Exchange> exchange_;
  Tensor sent_;
};

}  // namespace

StateAlgorithm choose_state_algorithm(const std::string& name, int ranks, int64_t state_bytes) {
  if (name == "all_gather") return StateAlgorithm::kAllGather;
  if (name == "all_to_all") return StateAlgorithm::kAllToAll;
  require<ConfigError>(name == "auto", "parallel.state_exchange = '", name,
                       "' does not exist. Choose among auto, all_gather, all_to_all.");
  return ranks <= 2 || state_bytes <= kSmallState_bytes ? StateAlgorithm::kAllGather
                                                        : StateAlgorithm::kAllToAll;
}

const char* name_of(StateAlgorithm algorithm) {
  return algorithm == StateAlgorithm::kAllGather ? "all_gather" : "all_to_all";
}

std::unique_ptr<StateExchange> make_state_exchange(Communicator& group, const std::string& algorithm,
                                                   at::ScalarType wire) {
  return std::make_unique<PrefixExchange>(group, algorithm, wire);
}

int64_t state_exchange_bytes(StateAlgorithm algorithm, int ranks, int64_t batch, int64_t state_elements,
                             int64_t tensors, int64_t wire_bytes, int64_t carry_bytes) {
  const int64_t blocks = algorithm == StateAlgorithm::kAllGather ? 1 : ranks;
  const int64_t block = block_columns(state_elements, blocks) * batch * wire_bytes;
  const int64_t with_carries =
      carry_bytes > 0 ? aligned(aligned(block) + batch * tensors * carry_bytes) : block;
  if (algorithm == StateAlgorithm::kAllGather) return (ranks - 1) * with_carries;
  return (ranks - 1) * (with_carries + block);
}

}  // namespace fwl
