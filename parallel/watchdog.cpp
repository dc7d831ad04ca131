#include "parallel/watchdog.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
#include <deque>
#include <exception>
#include <map>
#include <mutex>
#include <thread>

#include "core/base/error.h"
#include "core/base/hash.h"
#include "core/base/log.h"
#include "parallel/failure.h"
#include "parallel/session.h"
#include "parallel/side_channel.h"

namespace fwl {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kPoll_ms = 50;
constexpr int kQuestions = 4;
constexpr std::chrono::milliseconds kAnswerTime(300);
constexpr std::chrono::milliseconds kGiveUpTime(500);
constexpr std::chrono::milliseconds kLastWords(250);
constexpr int kFanOut = 32;
// Questions go out in portions: answers to more of them at once would not fit into a socket's buffer.
constexpr size_t kPortion = 64;
constexpr std::chrono::milliseconds kPortionTime(2);
constexpr int kCommExit = static_cast<int>(ExitCode::kComm);

// Who ended the job: nobody yet, this rank, or (from kHeard on) another with exit code - kHeard.
constexpr int kNobody = -2, kThisRank = -1, kHeard = 0;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

struct Watchdog::Impl {
  struct Group {
    std::string name;
    uint64_t key;
    std::vector<int> members;
    double timeout_s;
    std::string setting;
    int64_t entered = 0;
    std::string what;  // the last operation entered
    bool inside = false;
  };
  struct Answer {
    int64_t entered = -1;
    std::string what;
  };
  struct Watched {
    Operation operation;
    std::shared_ptr<GpuOperation> gpu;
    Clock::time_point running_since;
    bool running = false;
  };

  Impl(int own_rank, int world_size) : channel(own_rank, world_size), rank(own_rank), size(world_size) {}

  void answer_questions();
  void look_after_gpus();
  void handle(const SideChannel::Datagram& datagram);
  void hear_end(const SideChannel::Datagram& datagram);
  void send_end(int origin, int64_t exit_code);
  void answer(const SideChannel::Datagram& question);
  void look_at(const Watched& item);
  void notice_stuck_query();
  [[noreturn]] void end_job(const std::string& message);
  bool has_answered(uint64_t group, int member) {
    const std::lock_guard lock(mutex);
    return answers.count({group, member}) > 0;
  }
  double patience_s(int group) const;
  int member_that_is(ProcessState state, int group) const;
  std::string late_members(const Operation& operation);
  std::string describe(const Operation& operation, double waited_s, const std::string& setting = {});
  std::string describe_member(const Group& group, int member, const Answer& answer, int64_t number) const;

  SideChannel channel;
  int rank, size;
  mutable std::mutex mutex;
  std::vector<Group> groups;
  std::map<std::pair<uint64_t, int>, Answer> answers;
  std::deque<Watched> watched;
  std::map<int, std::function<void()>> give_up;
  int next_give_up = 0;
  std::atomic<bool> stop = false;
  std::atomic<int> ended_by = kNobody;
  std::atomic<int> exit_code = 0;  // that this rank announced
  // When the GPU thread entered a query that it has not left, in ticks of the clock; 0: it is in none. A
  // query may itself hang: the driver keeps locks while another thread waits for a GPU.
  std::atomic<Clock::rep> in_query_since = 0;
  std::thread channel_thread, gpu_thread;
};

// Makes no call into CUDA, so that questions are answered whatever the GPUs do.
void Watchdog::Impl::answer_questions() {
  while (!stop) {
    SideChannel::Datagram datagram;
    if (channel.receive(&datagram, kPoll_ms)) handle(datagram);
    notice_stuck_query();
  }
}

void Watchdog::Impl::notice_stuck_query() {
  const Clock::rep since = in_query_since;
  if (since == 0) return;
  const double waited_s = seconds_since(Clock::time_point(Clock::duration(since)));
  std::unique_lock lock(mutex);
  if (watched.empty()) return;
  const Operation operation = watched.front().operation;
  if (waited_s <= groups[static_cast<size_t>(operation.group)].timeout_s + patience_s(operation.group))
    return;
  lock.unlock();
  end_job(describe(operation, waited_s));
}

void Watchdog::Impl::look_after_gpus() {
  while (!stop) {
    std::this_thread::sleep_for(std::chrono::milliseconds(kPoll_ms));
    std::deque<Watched> items;
    {
      const std::lock_guard lock(mutex);
      items = watched;
    }
    for (const Watched& item : items) look_at(item);
    // The last owner of an operation frees its events, which may hang like a query.
    in_query_since = Clock::now().time_since_epoch().count();
    items.clear();
    in_query_since = 0;
  }
}

void Watchdog::Impl::handle(const SideChannel::Datagram& datagram) {
  switch (datagram.kind) {
    case SideChannel::Kind::kQuestion:
      return answer(datagram);
    case SideChannel::Kind::kAnswer: {
      const std::lock_guard lock(mutex);
      answers[{datagram.group, datagram.from}] = {datagram.number, datagram.text.data()};
      return;
    }
    case SideChannel::Kind::kEnd:
      return hear_end(datagram);
  }
}

void Watchdog::Impl::send_end(int origin, int64_t code) {
  SideChannel::Datagram end;
  end.kind = SideChannel::Kind::kEnd;
  end.number = code;
  end.origin = origin;
  for (const int child : tree_children(rank, origin, size)) channel.send(child, end);
}

// The job's end by another rank. This process says so, in one line, and ends with the same exit code.
void Watchdog::Impl::hear_end(const SideChannel::Datagram& datagram) {
  int nobody = kNobody;
  const auto code = static_cast<int>(datagram.number & 0xff);
  if (!ended_by.compare_exchange_strong(nobody, kHeard + code)) return;
  const auto origin = static_cast<int>(datagram.origin);
  send_end(origin, datagram.number);
  log_error(cat(channel.name_of(origin), " has ended the job with exit code ", code, ". See its message."));
  // Not in this thread: questions are still answered meanwhile. A rank that fails for the same reason has the
  // time to say so itself, and rank 0 to print what it has.
  std::thread([code] {
    std::this_thread::sleep_for(kLastWords);
    exit_when_finished(code);
  }).detach();
}

void Watchdog::Impl::answer(const SideChannel::Datagram& question) {
  SideChannel::Datagram reply;
  reply.kind = SideChannel::Kind::kAnswer;
  reply.group = question.group;
  reply.number = -1;
  {
    const std::lock_guard lock(mutex);
    for (const Group& g : groups) {
      if (g.key != question.group) continue;
      reply.number = g.entered;
      const std::string text = cat(g.inside ? "in " : "after ", g.what.empty() ? "set-up" : g.what);
      std::strncpy(reply.text.data(), text.c_str(), reply.text.size() - 1);
    }
  }
  channel.send(question.from, reply);
}

void Watchdog::Impl::look_at(const Watched& item) {
  GpuOperation::Phase phase;
  in_query_since = Clock::now().time_since_epoch().count();
  try {
    phase = item.gpu->phase();
  } catch (const Error& error) {
    in_query_since = 0;
    end_job(cat(error.what(), " Seen in operation ", item.operation.number, " (", item.operation.what,
                ") on rank ", rank, ". ", late_members(item.operation)));
  }
  in_query_since = 0;
  std::unique_lock lock(mutex);
  const auto found =
      std::find_if(watched.begin(), watched.end(), [&](const Watched& w) { return w.gpu == item.gpu; });
  if (found == watched.end()) return;
  if (phase == GpuOperation::Phase::kDone) {
    watched.erase(found);
    return;
  }
  if (phase == GpuOperation::Phase::kQueued) return;
  if (!found->running) found->running_since = Clock::now();
  found->running = true;
  const double waited_s = seconds_since(found->running_since);
  const int number = item.operation.group;
  if (waited_s <= groups[static_cast<size_t>(number)].timeout_s + patience_s(number)) return;
  lock.unlock();
  end_job(describe(item.operation, waited_s));
}

void Watchdog::Impl::end_job(const std::string& message) {
  report_failure(kCommExit, message);
  std::map<int, std::function<void()>> callbacks;
  {
    const std::lock_guard lock(mutex);
    callbacks = give_up;
  }
  // Freeing the GPUs may hang as well; the process is armed to end whatever hangs.
  std::thread([callbacks] {
    for (const auto& [number, callback] : callbacks) callback();
  }).detach();
  std::this_thread::sleep_for(kGiveUpTime);
  abort_if_parallel(kCommExit);
  std::_Exit(kCommExit);
}

std::string Watchdog::Impl::describe_member(const Group& group, int member, const Answer& answer,
                                            int64_t number) const {
  if (answer.entered >= number) return {};
  const std::string who = channel.name_of(member);
  if (answer.entered >= 0)
    return cat(who, " is at operation ", answer.entered, " of group ", group.name, " (", answer.what, ")");
  switch (channel.process_state(member)) {
    case ProcessState::kGone:
      return cat(who, " is gone: its process has ended");
    case ProcessState::kStopped:
      return cat(who, " is stopped (SIGSTOP or a debugger)");
    default:
      return cat(who, " does not answer");
  }
}

// Doubling ranks wait a second longer. Under `mutex`, or where groups do not change.
double Watchdog::Impl::patience_s(int group) const {
  const std::vector<int>& members = groups[static_cast<size_t>(group)].members;
  const auto own = std::find(members.begin(), members.end(), rank) - members.begin();
  return std::log2(1.0 + static_cast<double>(own));
}

// Asks all members, a few times, since datagrams get lost.
std::string Watchdog::Impl::late_members(const Operation& operation) {
  Group group;
  {
    const std::lock_guard lock(mutex);
    group = groups[static_cast<size_t>(operation.group)];
    for (const int member : group.members) answers.erase({group.key, member});
  }
  SideChannel::Datagram question;
  question.kind = SideChannel::Kind::kQuestion;
  question.group = group.key;
  const bool own_thread = std::this_thread::get_id() == channel_thread.get_id();
  for (int round = 0; round < kQuestions; ++round) {
    size_t missing = 0;
    for (const int member : group.members) {
      if (member == rank || has_answered(group.key, member)) continue;
      channel.send(member, question);
      if (++missing % kPortion == 0) std::this_thread::sleep_for(kPortionTime);
    }
    if (missing == 0) break;
    const Clock::time_point end = Clock::now() + kAnswerTime;
    while (Clock::now() < end) {
      if (own_thread) {
        SideChannel::Datagram datagram;
        if (channel.receive(&datagram, kPoll_ms)) handle(datagram);
      } else {
        std::this_thread::sleep_for(std::chrono::milliseconds(kPoll_ms));
      }
    }
  }
  const std::lock_guard lock(mutex);
  std::string late;
  for (const int member : group.members) {
    if (member == rank) continue;
    const auto found = answers.find({group.key, member});
    const std::string text =
        describe_member(group, member, found == answers.end() ? Answer{} : found->second, operation.number);
    if (!text.empty()) late += cat(late.empty() ? "" : "; ", text);
  }
  return late.empty() ? "All ranks have arrived: what connects them hangs." : cat("Not arrived: ", late, ".");
}

std::string Watchdog::Impl::describe(const Operation& operation, double waited_s,
                                     const std::string& setting) {
  const std::string late = late_members(operation);
  const std::lock_guard lock(mutex);
  const Group& group = groups[static_cast<size_t>(operation.group)];
  return cat(operation.what, " (operation ", operation.number, " of group ", group.name, ") on rank ", rank,
             " of ", size, " waited ", waited_s, " s (the job cannot go on without the others). ", late,
             " Look at the late ranks' logs; raise ", setting.empty() ? group.setting : setting,
             " when they only needed more time.");
}

Watchdog::Watchdog(int rank, int size) : impl_(std::make_unique<Impl>(rank, size)) {
  impl_->channel_thread = std::thread([this] { impl_->answer_questions(); });
  impl_->gpu_thread = std::thread([this] { impl_->look_after_gpus(); });
}

Watchdog::~Watchdog() {
  impl_->stop = true;
  impl_->channel_thread.join();
  impl_->gpu_thread.join();
}

int Watchdog::add_group(const std::string& name, const std::vector<int>& members, double timeout_s,
                        const std::string& setting) {
  const std::lock_guard lock(impl_->mutex);
  const auto index = static_cast<int>(impl_->groups.size());
  impl_->groups.push_back(
      {name, hash_bytes(cat(index, ' ', name)), members, timeout_s, setting, 0, {}, false});
  return index;
}

Operation Watchdog::begin(int group, const std::string& what) {
  const std::lock_guard lock(impl_->mutex);
  Impl::Group& g = impl_->groups[static_cast<size_t>(group)];
  g.what = what;
  g.inside = true;
  return {group, ++g.entered, what};
}

Operation Watchdog::next(int group, const std::string& what) const {
  const std::lock_guard lock(impl_->mutex);
  return {group, impl_->groups[static_cast<size_t>(group)].entered + 1, what};
}

void Watchdog::end(const Operation& operation) {
  const std::lock_guard lock(impl_->mutex);
  Impl::Group& g = impl_->groups[static_cast<size_t>(operation.group)];
  if (g.entered == operation.number) g.inside = false;
}

std::string Watchdog::describe_wait(const Operation& operation, double waited_s, const std::string& setting) {
  return impl_->describe(operation, waited_s, setting);
}

int Watchdog::Impl::member_that_is(ProcessState state, int group) const {
  std::vector<int> members;
  {
    const std::lock_guard lock(mutex);
    members = groups[static_cast<size_t>(group)].members;
  }
  for (const int member : members)
    if (channel.process_state(member) == state) return member;
  return -1;
}

int Watchdog::gone_member(int group) const {
  return impl_->member_that_is(ProcessState::kGone, group);
}

int Watchdog::stopped_member(int group) const {
  return impl_->member_that_is(ProcessState::kStopped, group);
}

double Watchdog::timeout_s(int group) const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->groups[static_cast<size_t>(group)].timeout_s;
}

void Watchdog::watch(const Operation& operation, std::shared_ptr<GpuOperation> gpu) {
  const std::lock_guard lock(impl_->mutex);
  impl_->watched.push_back({operation, std::move(gpu), {}, false});
}

int Watchdog::on_give_up(std::function<void()> callback) {
  const std::lock_guard lock(impl_->mutex);
  impl_->give_up[impl_->next_give_up] = std::move(callback);
  return impl_->next_give_up++;
}

void Watchdog::remove_give_up(int number) {
  const std::lock_guard lock(impl_->mutex);
  impl_->give_up.erase(number);
}

double Watchdog::patience_s(int group) const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->patience_s(group);
}

bool Watchdog::announce_end(int exit_code) {
  int nobody = kNobody;
  if (!impl_->ended_by.compare_exchange_strong(nobody, kThisRank)) return nobody == kThisRank;
  impl_->exit_code = exit_code;
  impl_->send_end(impl_->rank, exit_code);
  return true;
}

void Watchdog::announce_end_to_all() {
  SideChannel::Datagram end;
  end.kind = SideChannel::Kind::kEnd;
  end.number = impl_->exit_code;
  end.origin = impl_->rank;
  for (int r = 0; r < impl_->size; ++r)
    if (r != impl_->rank) impl_->channel.send(r, end);
}

int Watchdog::heard_end() const {
  const int by = impl_->ended_by;
  return by >= kHeard ? by - kHeard : -1;
}

void Watchdog::wait_for_ends(double seconds) const {
  const auto may_end = [&](int r) {
    const ProcessState state = impl_->channel.process_state(r);
    return state != ProcessState::kGone && state != ProcessState::kStopped;
  };
  const Clock::time_point start = Clock::now();
  for (int r = 0; r < impl_->size && seconds_since(start) < seconds;) {
    if (r == impl_->rank || !may_end(r)) {
      ++r;
    } else {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }
}

int Watchdog::rank() const {
  return impl_->rank;
}

std::vector<int> tree_children(int rank, int origin, int size) {
  std::vector<int> children;
  const int64_t place = (rank - origin + size) % size;  // in the tree, whose root is 0
  for (int64_t child = kFanOut * place + 1; child <= kFanOut * place + kFanOut && child < size; ++child)
    children.push_back(static_cast<int>((child + origin) % size));
  return children;
}

}  // namespace fwl
