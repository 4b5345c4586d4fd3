// Streams, events and graphs.
#pragma once
#include <deque>

#include "device.h"

namespace device {

struct Graph {
  Stream* origin;
  std::vector<Work> nodes;
  bool invalid;
};

struct Stream {
  explicit Stream(bool blocks) : blocking(blocks) {}
  Graph* capture = nullptr;
  bool blocking;  // waits for the default stream, and is waited for by it
  std::deque<Work> queue;
  uint64_t enqueued = 0, finished = 0;
};

struct Event {
  Stream* stream = nullptr;
  Graph* capture = nullptr;
  uint64_t position = 0;
  bool recorded = false;
  double time = 0;  // ms
};

Stream* stream_of(void* handle);
bool idle(Stream* stream);
int make_stream(void** handle, bool blocking);
int destroy_stream(void* handle);
int record_event(Event* event, void* stream);
int wait_event(void* stream, Event* event);
int synchronize_event(Event* event);
bool event_happened(Event* event);
int begin_capture(void* stream);
int end_capture(void* stream, Graph** graph);
int launch_graph(Graph* graph, void* stream);

}  // namespace device
