"""`<TimelineLabels model_trainable="true">`: labels of a timeline, learned from people's annotations.

The classification network looks at each frame, as always; what its last layer but one says of it goes through a small
bidirectional LSTM, which is trained here and says which labels hold at each frame.
"""
