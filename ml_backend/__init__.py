"""The ML backend: answers Label Studio's ML protocol with what a YOLO model sees. The only program with torch."""
