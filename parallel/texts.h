// Texts between ranks: short ones that all must know or have alike. Collective over groups of host tensors.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "parallel/communicator.h"

namespace fwl {

// Every rank's text, in rank order.
std::vector<std::string> gather_texts(Communicator& group, const std::string& text);
// Rank 0's text: ranks that list a shared folder themselves may see different things.
std::string broadcast_text(Communicator& group, std::string text);
// The lines of a text in which each ends with a newline.
std::vector<std::string> lines_of(const std::string& text);

// Names with values, in an order that is the same on all ranks: {{"tokens", "1200"}}.
using Facts = std::vector<std::pair<std::string, std::string>>;
// Throws DataError on every rank, naming the ranks and facts that differ with their values, unless all ranks
// have the same. `what` names the thing, `advice` ends the message.
void require_same_facts(Communicator& group, const std::string& what, const Facts& facts,
                        const std::string& advice);

// Whether all ranks have the same number, asked by two numbers more in a sum that is made anyway: of its low
// bits and of their square. The sums are exact, so that all ranks see the same answer; two numbers that
// differ look alike once in a million times.
struct EqualityVote {
  explicit EqualityVote(uint64_t number);
  double value, square;
  static bool all_equal(double sum, double sum_of_squares, int ranks);
};

// Runs `body` on every rank. When it throws on any, all throw: those where it did the same again, the others
// an Error of the first of them with its text (Interrupted where that was one: to end early is no failure).
// For what each rank reads by itself, or one alone does: no rank waits for one that has thrown.
void on_all_ranks(Communicator& group, const std::function<void()>& body);

}  // namespace fwl
