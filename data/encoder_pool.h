// Threads that encode pieces of text. Results come back in the order in which pieces were given.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "data/document_reader.h"
#include "data/tokenizer.h"

namespace fwl {

struct EncodedPiece {
  Piece piece;
  size_t split = 0;      // the caller's
  int64_t document = 0;  // the caller's
  std::vector<int32_t> ids;
  int64_t invalid_utf8 = 0;
  uint64_t text_hash = 0;
  bool done = false;
  std::exception_ptr failure;
};

// give() and take() are for one thread.
class EncoderPool {
 public:
  // `bytes_in_flight` bounds what is given and not taken.
  EncoderPool(const Tokenizer& tokenizer, int threads, int64_t bytes_in_flight);
  ~EncoderPool();
  void give(std::unique_ptr<EncodedPiece> piece);
  // Waits for the oldest piece that was given and not taken. Rethrows what its encoding threw.
  std::unique_ptr<EncodedPiece> take();
  bool empty() const { return in_order_.empty(); }
  // Whether enough is in flight to keep all threads busy: then take() before the next give().
  bool is_full() const { return bytes_ >= limit_; }

 private:
  void end();
  void work();

  const Tokenizer& tokenizer_;
  std::deque<std::unique_ptr<EncodedPiece>> in_order_;  // the caller's thread alone
  int64_t bytes_ = 0, limit_;
  std::mutex mutex_;
  std::condition_variable given_, finished_;
  std::deque<EncodedPiece*> waiting_;
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace fwl
