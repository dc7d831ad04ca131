#include "parallel/halo.h"

#include <algorithm>
#include <tuple>

#include "core/base/autograd.h"

namespace fwl {
namespace {

// Rows of every rank that a reader of [begin, end) needs; `to` is the reader.
void add_rows(std::vector<HaloRows>* rows, int64_t length, int to, int64_t begin, int64_t end) {
  for (int64_t first = begin; first < end;) {
    const int64_t from = first / length, last = std::min((from + 1) * length, end);
    rows->push_back({static_cast<int>(from), to, first, last - first});
    first = last;
  }
}

int64_t overlap(int64_t a_begin, int64_t a_end, int64_t b_begin, int64_t b_end) {
  return std::max<int64_t>(0, std::min(a_end, b_end) - std::max(a_begin, b_begin));
}

void sort_rows(std::vector<HaloRows>* rows) {
  std::stable_sort(rows->begin(), rows->end(), [](const HaloRows& a, const HaloRows& b) {
    return std::tie(a.from, a.to) < std::tie(b.from, b.to);
  });
}

}  // namespace

std::vector<HaloRows> halo_rows(int ranks, int64_t length, int64_t reach) {
  std::vector<HaloRows> rows;
  for (int to = 1; to < ranks; ++to)
    add_rows(&rows, length, to, std::max<int64_t>(0, to * length - reach), to * length);
  sort_rows(&rows);
  return rows;
}

// In the next sequence rank r reaches back to position r L - reach, counted from that sequence's start.
std::vector<HaloRows> memory_rows(int ranks, int64_t length, int64_t reach) {
  const int64_t total = ranks * length;
  std::vector<HaloRows> rows;
  for (int to = 0; to < ranks; ++to)
    add_rows(&rows, length, to, std::max<int64_t>(0, total + to * length - reach), total);
  sort_rows(&rows);
  return rows;
}

// Counted without the lists, which thousands of ranks would make long: a reader further on reaches less far
// back, so that the first that reaches none of this rank's rows is followed by none that does.
int64_t halo_rows_sent(int rank, int ranks, int64_t length, int64_t reach, StreamMemory stream) {
  const int64_t own = rank * length, own_end = own + length, total = ranks * length;
  int64_t sent = 0;
  for (int64_t to = rank + 1; to < ranks && to * length - reach < own_end; ++to)
    sent += overlap(own, own_end, to * length - reach, to * length);
  if (stream == StreamMemory::kNone) return sent;
  for (int64_t to = 0; to < ranks && total + to * length - reach < own_end; ++to)
    sent += to == rank ? 0 : overlap(own, own_end, total + to * length - reach, total);
  return sent;
}

int64_t halo_rows_received(int rank, int64_t length, int64_t reach) {
  return std::min(reach, rank * length);
}

namespace {

// The plan of one exchange and its buffers.
class HaloExchange : public torch::CustomClassHolder {
 public:
  HaloExchange(Communicator& group, int64_t length, int64_t reach, StreamMemory stream)
      : group_(group), rows_(std::min(reach, length)), first_((group.rank() + 1) * length - rows_) {
    window_rows_ = halo_rows(group.size(), length, reach);
    if (stream == StreamMemory::kKept) memory_rows_ = memory_rows(group.size(), length, reach);
  }

  void start(const Tensor& x_nhle) {
    std::vector<Message> sends, receives;
    const auto plan = [&](const std::vector<HaloRows>& rows, std::vector<Tensor>* arriving) {
      arriving->clear();
      for (const HaloRows& r : rows) {
        if (r.from == group_.rank())
          sends.push_back({r.to, x_nhle.narrow(2, r.first - first_, r.count).contiguous()});
        if (r.to != group_.rank()) continue;
        arriving->push_back(
            at::empty({x_nhle.size(0), x_nhle.size(1), r.count, x_nhle.size(3)}, x_nhle.options()));
        receives.push_back({r.from, arriving->back()});
      }
    };
    plan(window_rows_, &window_parts_);
    plan(memory_rows_, &memory_parts_);
    empty_ = at::empty({x_nhle.size(0), x_nhle.size(1), 0, x_nhle.size(3)}, x_nhle.options());
    transfer_ = group_.start_exchange(sends, receives, purpose::kAttention);
  }

  Tensor finish() {
    transfer_->wait();
    transfer_.reset();
    next_memory_ = joined(&memory_parts_);
    return joined(&window_parts_);
  }

  // Cotangents of the rows that came from the left go back there.
  void start_backward(const Tensor& bar_nhle) {
    std::vector<Message> sends, receives;
    window_parts_.clear();
    int64_t done = 0;
    for (const HaloRows& r : window_rows_) {
      if (r.to == group_.rank()) {
        sends.push_back({r.from, bar_nhle.narrow(2, done, r.count).contiguous()});
        done += r.count;
      }
      if (r.from != group_.rank()) continue;
      window_parts_.push_back(
          at::empty({bar_nhle.size(0), bar_nhle.size(1), r.count, bar_nhle.size(3)}, bar_nhle.options()));
      receives.push_back({r.to, window_parts_.back()});
    }
    options_ = bar_nhle.options();
    shape_ = bar_nhle.sizes().vec();
    transfer_ = group_.start_exchange(sends, receives, purpose::kAttention);
  }

  Tensor finish_backward() {
    transfer_->wait();
    transfer_.reset();
    Tensor sum = at::zeros({shape_[0], shape_[1], rows_, shape_[3]}, options_);
    size_t next = 0;
    for (const HaloRows& r : window_rows_)
      if (r.from == group_.rank()) sum.narrow(2, r.first - first_, r.count).add_(window_parts_[next++]);
    window_parts_.clear();
    return sum;
  }

  const Tensor& next_memory() const { return next_memory_; }

 private:
  // Rows arrive ordered by sender, which is by position. A new tensor every time: a result that this object
  // kept would keep the graph alive that keeps this object alive.
  Tensor joined(std::vector<Tensor>* parts) const {
    const Tensor all = parts->empty() ? at::empty_like(empty_) : at::cat(*parts, 2);
    parts->clear();
    return all;
  }

  Communicator& group_;
  int64_t rows_, first_;  // that this rank sends from: positions [first_, first_ + rows_)
  std::vector<HaloRows> window_rows_, memory_rows_;
  std::vector<Tensor> window_parts_, memory_parts_;
  Tensor empty_, next_memory_;
  at::TensorOptions options_;
  std::vector<int64_t> shape_;
  TransferPtr transfer_;
};

c10::intrusive_ptr<HaloExchange> exchange_of(AutogradContext* ctx) {
  return c10::static_intrusive_pointer_cast<HaloExchange>(ctx->saved_data["exchange"].toCapsule());
}

// Two nodes, as in state_exchange.cpp: what was computed between start and finish in the forward is computed
// between them in the backward.
class SentRows : public torch::autograd::Function<SentRows> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& x_nhle,
                        const c10::intrusive_ptr<HaloExchange>& exchange) {
    exchange->start(x_nhle);
    ctx->saved_data["exchange"] = c10::IValue::make_capsule(exchange);
    return at::zeros({1}, x_nhle.options());
  }
  static variable_list backward(AutogradContext* ctx, variable_list) {
    return {exchange_of(ctx)->finish_backward(), Tensor()};
  }
};

class ReceivedRows : public torch::autograd::Function<ReceivedRows> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor&,
                        const c10::intrusive_ptr<HaloExchange>& exchange) {
    ctx->saved_data["exchange"] = c10::IValue::make_capsule(exchange);
    return exchange->finish();
  }
  static variable_list backward(AutogradContext* ctx, variable_list bars) {
    exchange_of(ctx)->start_backward(bars[0]);
    return {at::zeros({1}, bars[0].options()), Tensor()};
  }
};

}  // namespace

Halo::Halo(Communicator& group, const Tensor& x_nhle, int64_t length, int64_t reach,
           const Tensor& memory_nhle, StreamMemory stream)
    : exchange_(c10::make_intrusive<HaloExchange>(group, length, reach, stream)), memory_nhle_(memory_nhle) {
  sent_ = SentRows::apply(x_nhle, c10::static_intrusive_pointer_cast<HaloExchange>(exchange_));
}

Tensor Halo::finish() {
  const Tensor rows = ReceivedRows::apply(sent_, c10::static_intrusive_pointer_cast<HaloExchange>(exchange_));
  sent_ = Tensor();
  return memory_nhle_.defined() ? at::cat({memory_nhle_, rows}, 2) : rows;
}

Tensor Halo::next_memory() const {
  return c10::static_intrusive_pointer_cast<HaloExchange>(exchange_)->next_memory().detach();
}

}  // namespace fwl
