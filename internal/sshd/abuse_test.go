package sshd

import (
	"context"
	"encoding/binary"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"
)

// A copy inside the server or an fsync may take longer than a client may be
// idle, and the client has nothing to say meanwhile.
func TestALongRequestIsNotIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Limits{IdleTimeout: 10 * time.Minute})
		r.tree.gate = make(chan struct{})
		r.run(func() {
			client, _ := r.login()
			ch, err := sftpChannel(client)
			if err != nil {
				t.Fatal(err)
			}
			if err := ch.lstat("/file"); err != nil {
				t.Fatal(err)
			}
			<-time.After(time.Hour)
			close(r.tree.gate)
			if kind, _, err := ch.receive(); err != nil || kind != 105 {
				t.Errorf("after an hour: %d, %v", kind, err)
			}
			start := time.Now()
			_ = client.Wait()
			if took := time.Since(start); took < 10*time.Minute || took > 11*time.Minute {
				t.Errorf("an idle client was dropped after %v", took)
			}
			_ = client.Close()
		})
	})
}

func TestAClientThatTakesNoAnswersIsIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Limits{IdleTimeout: 10 * time.Minute})
		r.run(func() {
			client, _ := r.login()
			ch, err := sftpChannel(client)
			if err != nil {
				t.Fatal(err)
			}
			asked := make(chan struct{})
			go func() {
				defer close(asked)
				for ch.lstat("/file") == nil { // until the connection ends
				}
			}()
			start := time.Now()
			_ = client.Wait()
			if took := time.Since(start); took < 10*time.Minute || took > 11*time.Minute {
				t.Errorf("a client that takes no answers was dropped after %v", took)
			}
			<-asked
			_ = client.Close()
		})
	})
}

// A stranger may fill the log no faster than with one line for a connection.
func TestStrangersFillNoLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Limits{})
		r.run(func() {
			conn, err := r.listener.Dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			payload := append([]byte{20}, make([]byte, 16)...) // KEXINIT and its cookie
			for range 10 {
				payload = binary.BigEndian.AppendUint32(payload, 20_000)
				payload = append(payload, strings.Repeat("x", 20_000)...)
			}
			payload = append(payload, make([]byte, 5)...)
			padding := 16 - (len(payload)+5)%8
			packet := binary.BigEndian.AppendUint32([]byte("SSH-2.0-x\r\n"), uint32(len(payload)+1+padding))
			packet = append(append(packet, byte(padding)), payload...)
			if _, err := conn.Write(append(packet, make([]byte, padding)...)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			_ = conn.Close()
		})
		if log := r.log.String(); !strings.Contains(log, "no login") || len(log) > 2000 {
			t.Errorf("%d bytes of log: %.500s", len(log), log)
		}
	})
}

// The bubble ends only when every goroutine has.
func TestHangUpLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Limits{})
		defer func() { _ = r.listener.Close() }()
		go func() {
			client, _, err := r.dial("alice", r.key)
			if err != nil {
				t.Error(err)
				return
			}
			for range 40 {
				go func() { _, _, _ = client.OpenChannel("session", nil) }()
			}
			_ = client.Wait()
		}()
		conn, err := r.listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		server, channels, requests, err := ssh.NewServerConn(conn, r.server.serverConfig(context.Background(), slog.New(slog.DiscardHandler), func() {}))
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // more channels have come than fit into x/crypto's queue
		hangUp(server, channels, requests)
	})
}
