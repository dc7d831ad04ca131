// TCP between the hosts of a job: what NCCL's and Open MPI's set-up needs, tried with plain sockets.
#pragma once

#include <atomic>
#include <string>
#include <thread>
#include <vector>

namespace fwl {

// Where other hosts may reach this one (outside_addresses), as text.
std::vector<std::string> host_addresses();

// Free ports of this process, held open while the object lives. A thread accepts what connects, and closes
// it: a connection that nobody accepts keeps a place in the port's queue, which holds some hundred.
class Listeners {
 public:
  // Opens `count` sockets on free ports of all interfaces; fewer when the system has no more: see ports().
  explicit Listeners(int count);
  ~Listeners();
  Listeners(const Listeners&) = delete;
  Listeners& operator=(const Listeners&) = delete;
  std::vector<int> ports() const { return ports_; }

 private:
  void accept_all() const;

  std::vector<int> sockets_, ports_;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

// Connects to one of `addresses` (tried in order). Empty when it worked, else what went wrong with each.
std::string try_to_connect(const std::vector<std::string>& addresses, int port, double timeout_s);

}  // namespace fwl
