#include "data/encoder_pool.h"

#include <algorithm>
#include <system_error>

#include "core/base/error.h"
#include "core/base/hash.h"
#include "data/utf8.h"

namespace fwl {
namespace {

constexpr int64_t kOverhead = 256;  // counted per piece, so that empty documents are bounded too

int64_t weight_of(const EncodedPiece& piece) {
  return static_cast<int64_t>(piece.piece.text.size()) + kOverhead;
}

}  // namespace

EncoderPool::EncoderPool(const Tokenizer& tokenizer, int threads, int64_t bytes_in_flight)
    : tokenizer_(tokenizer), limit_(bytes_in_flight) {
  try {
    for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { work(); });
  } catch (const std::system_error& error) {
    const size_t made = threads_.size();
    end();
    throw ConfigError(cat(threads, " threads cannot be started, only ", made, " (", error.code().message(),
                          "). Give fewer --threads."));
  }
}

EncoderPool::~EncoderPool() {
  end();
}

void EncoderPool::end() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    waiting_.clear();
  }
  given_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void EncoderPool::give(std::unique_ptr<EncodedPiece> piece) {
  bytes_ += weight_of(*piece);
  {
    const std::lock_guard lock(mutex_);
    waiting_.push_back(piece.get());
  }
  in_order_.push_back(std::move(piece));
  given_.notify_one();
}

std::unique_ptr<EncodedPiece> EncoderPool::take() {
  std::unique_ptr<EncodedPiece> piece = std::move(in_order_.front());
  {
    std::unique_lock lock(mutex_);
    finished_.wait(lock, [&] { return piece->done; });
  }
  in_order_.pop_front();
  bytes_ -= weight_of(*piece);
  if (piece->failure) std::rethrow_exception(piece->failure);
  return piece;
}

void EncoderPool::work() {
  while (true) {
    EncodedPiece* piece = nullptr;
    {
      std::unique_lock lock(mutex_);
      given_.wait(lock, [&] { return stop_ || !waiting_.empty(); });
      if (waiting_.empty()) return;
      piece = waiting_.front();
      waiting_.pop_front();
    }
    try {
      piece->ids = tokenizer_.encode(piece->piece.text);
      piece->invalid_utf8 = invalid_utf8_bytes(piece->piece.text);
      piece->text_hash = hash_bytes(piece->piece.text);
    } catch (...) {
      piece->failure = std::current_exception();
    }
    {
      const std::lock_guard lock(mutex_);
      piece->done = true;
    }
    finished_.notify_one();
  }
}

}  // namespace fwl
