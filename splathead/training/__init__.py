"""Training of depth networks: pairs and crops, the loop, its states and limits, and many trainings side by side."""
