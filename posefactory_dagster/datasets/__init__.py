"""What people train on: splits, exports, contact sheet and card."""
