"""Conversations assembled from messages, trees and session lists."""
